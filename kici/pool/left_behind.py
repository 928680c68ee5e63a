"""Scalers that were taken out of the configuration while the worker was down, or got another
engine (scaler spec 4.7).

Their agents may run jobs and come back with them; what is dead is cleared away. Host agents
leave records of their own; of containers only the engine knows, so where each container scaler
had its engine is written down. No secret is in that file.

What is left behind goes by the scaler's name or, when a configured one has that, by another;
``Scaler.name`` is always the one that its agents carry.
"""

import itertools
import logging
from collections.abc import Callable, Iterable, Sequence, Set
from pathlib import Path
from time import monotonic

import gevent
import msgspec

from kici.config.model import LabelSet, Scaler, WarmPool
from kici.pool.scalers import host_leftovers
from kici.shell.durable import make_directory, write_atomic

_log = logging.getLogger("kici.pool")
_FILE = "container-scalers.json"
#: Between two looks whether anything is left of scalers that are configured no more.
RETIRE_EVERY_S = 60.0
#: An engine that does not answer for so long may be gone for good: it is left in peace until
#: the next start.
GIVE_UP_S = 6 * 3600.0
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

    def configured(self, scalers: Sequence[Scaler]) -> None:
        """Before anything of them is started: a later start will find it. They are looked
        after like all others from now on."""
        names = {one.name for one in scalers}
        self.names -= names
        new = {one.name: _bare(one) for one in scalers if one.type == "container"}
        known = self._elsewhere(names, {_engine(one) for one in new.values()}) | new
        if known != self._known:
            self._known = known
            self._write()

    def _elsewhere(self, names: Set[str], engines: Set[tuple[object, ...]]) -> dict[str, Scaler]:
        """What is known of scalers in other engines than those of now."""
        kept: dict[str, Scaler] = {}
        for name, one in self._known.items():
            if _engine(one) not in engines or name in self.names:
                taken = {*names, *self._known, *kept}
                kept[_free(one.name, taken) if name in names else name] = one
        return kept

    def look_back(self, scalers: Sequence[Scaler]) -> dict[str, Scaler]:
        """At the start, after ``configured``: what earlier starts had and this one has not."""
        names = {one.name for one in scalers}
        left = {name: one for name, one in self._known.items() if name not in names}
        on_host = {one.name for one in scalers if one.type == "bare-metal"}
        for name, label_sets in self._host_leftovers().items():
            if name not in on_host:
                left[_free(name, {*names, *left})] = _host_scaler(name, label_sets)
        self.names = set(left)
        for name, one in left.items():
            why = "is configured no more" if name == one.name else f"was {one.name} elsewhere"
            _log.warning("Scaler %s %s, looking for its agents", name, why)
        return left

    def _host_leftovers(self) -> dict[str, set[tuple[str, ...]]]:
        return host_leftovers(self._state_dir, self._owner)

    def watch(self, look: Callable[[str], bool | None], drop: Callable[[str], None]) -> None:
        """Until nobody is looked after; run in a greenlet. ``look`` says whether agents exist
        (None: that cannot be found out), ``drop`` lets go of the backend."""
        give_up_at = monotonic() + GIVE_UP_S
        while self.names:
            gevent.sleep(RETIRE_EVERY_S)
            for name in sorted(self.names):
                left = look(name)
                waits = left is None and monotonic() < give_up_at
                # It may have been configured during the look.
                if not left and not waits and name in self.names:
                    drop(name)
                    self._let_go(name, certain=left is not None)

    def _let_go(self, name: str, *, certain: bool) -> None:
        self.names.discard(name)
        if not certain:
            _log.warning("Nobody says what is left of scaler %s, the next start asks again", name)
            return
        _log.info("Nothing is left of scaler %s", name)
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


def _engine(scaler: Scaler) -> tuple[object, ...]:
    """Where containers of ``scaler`` are, and what they are called there."""
    return scaler.name, scaler.host, scaler.socket_path, scaler.runtime


def _free(name: str, taken: Set[str]) -> str:
    """``name``, or one like it that is not taken."""
    others = (f"{name} (earlier {number})" for number in itertools.count(1))
    return next(one for one in itertools.chain((name,), others) if one not in taken)


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
