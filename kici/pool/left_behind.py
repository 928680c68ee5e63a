"""Scalers that were taken out of the configuration while the worker was down (scaler spec 4.7).

Their agents may run jobs and come back with them; what is dead is cleared away. Host agents
leave records of their own; of containers only the engine knows, so where each container scaler
had its engine is written down. No secret is in that file.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from kici.config.model import LabelSet, Scaler, WarmPool
from kici.pool.scalers import host_leftovers
from kici.shell.durable import make_directory, write_atomic

_log = logging.getLogger("kici.pool")
_FILE = "container-scalers.json"
_decoder = msgspec.json.Decoder(dict[str, Scaler])


class LeftBehind:
    """Owns: the file, and which scalers are looked after although nobody configures them.
    Told by: the fleet."""

    def __init__(self, state_dir: str, owner: str) -> None:
        self._state_dir, self._owner = state_dir, owner
        self._path = Path(state_dir, _FILE)
        #: Looked after, until nothing of theirs exists.
        self.names: set[str] = set()
        #: False: containers may exist that nobody told us of.
        self.complete = True
        self._known = self._read()

    def look_back(self, configured: Iterable[str]) -> list[Scaler]:
        """At the start: the scalers of earlier starts that are configured no more."""
        names = set(configured)
        left = [_host_scaler(*one) for one in self._host_leftovers().items() if one[0] not in names]
        taken = names | {one.name for one in left}
        left += [one for name, one in self._known.items() if name not in taken]
        self.names = {one.name for one in left}
        for one in left:
            _log.warning("Scaler %s is configured no more, looking for its agents", one.name)
        return left

    def _host_leftovers(self) -> dict[str, set[tuple[str, ...]]]:
        return host_leftovers(self._state_dir, self._owner)

    def configured(self, scalers: Sequence[Scaler]) -> None:
        """Before anything of them is started: a later start will find it. They are looked
        after like all others from now on."""
        self.names -= {one.name for one in scalers}
        new = {one.name: _bare(one) for one in scalers if one.type == "container"}
        if any(self._known.get(name) != one for name, one in new.items()):
            self._known |= new
            self._write()

    def gone(self, name: str) -> None:
        """Nothing of this scaler exists any more."""
        _log.info("Nothing is left of scaler %s", name)
        self.names.discard(name)
        if self._known.pop(name, None) is not None:
            self._write()

    def _read(self) -> dict[str, Scaler]:
        try:
            return _decoder.decode(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("Containers of removed scalers may be left: %s: %s", self._path, error)
            self.complete = False
            return {}

    def _write(self) -> None:
        try:
            make_directory(self._path.parent)
            write_atomic(self._path, msgspec.json.encode(self._known))
        except OSError as error:
            _log.warning("Containers may be left when their scaler is removed: %s", error)


def _host_scaler(name: str, label_sets: Iterable[tuple[str, ...]]) -> Scaler:
    known = tuple(LabelSet(labels=labels, enriched=()) for labels in sorted(label_sets))
    return Scaler(name=name, type="bare-metal", max_agents=0, label_sets=known)


def _bare(scaler: Scaler) -> Scaler:
    """What finds its containers and knows their tokens again; no environment, no volumes."""
    sets = tuple(
        LabelSet(
            labels=one.labels,
            enriched=one.enriched,
            gate=one.gate,
            agent_labels=one.agent_labels,
            resources=one.resources,
        )
        for one in scaler.label_sets
    )
    return msgspec.structs.replace(
        scaler, max_agents=0, label_sets=sets, warm_pool=WarmPool(), unsupported=None
    )
