"""Which images this worker pulled: only those may it delete (issue 4 item 8).

One small file for all scalers, by engine. A lost or damaged file costs disk space, never
somebody's image: what is not in it is not ours.
"""

import functools
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from kici.shell.durable import make_directory, write_atomic

log = logging.getLogger("kici.pool.container")
_FILE = "pulled-images.json"
#: Later than this a use is written down: cleaning counts in days, a flash card in writes.
_USE_STEP_S = 3600.0
#: Pulls remembered of one engine; the oldest are forgotten, and so left alone.
MAX_REMEMBERED = 1000


class PulledImage(msgspec.Struct, kw_only=True):
    """``references`` are the names we pulled it by; moments are wall-clock seconds."""

    image_id: str
    references: tuple[str, ...]
    used_at: float
    n_bytes: int


_decoder = msgspec.json.Decoder(dict[str, list[PulledImage]])


class PulledImages:
    """Owns: the file. Told by: pulls and the cleaning, of all backends of this process."""

    def __init__(self, directory: str, wall: Callable[[], float] = time.time) -> None:
        self._path = Path(directory, _FILE)
        self._wall = wall
        #: Engine and reference -> monotonic moment of the last launch that wanted it.
        self._wanted: dict[tuple[str, str], float] = {}

    def pulled(self, engine: str, image_id: str, reference: str, n_bytes: int) -> None:
        """``image_id`` was not in the engine before our pull of ``reference``."""
        everything = self._read()
        mine = everything.setdefault(engine, [])
        old = next((one for one in mine if one.image_id == image_id), None)
        known = old.references if old is not None else ()
        new = PulledImage(
            image_id=image_id,
            references=tuple(dict.fromkeys((*known, reference))),
            used_at=self._wall(),
            n_bytes=n_bytes,
        )
        rest = [one for one in mine if one is not old]
        everything[engine] = [*rest, new][-MAX_REMEMBERED:]
        self._write(everything)

    def wanted(self, engine: str, reference: str) -> None:
        """A launch is about to make a container of it."""
        self._wanted[engine, reference] = time.monotonic()

    def wanted_lately(self, engine: str, within_s: float) -> set[str]:
        """References that launches wanted in the last ``within_s``."""
        since = time.monotonic() - within_s
        self._wanted = {key: at for key, at in self._wanted.items() if at >= since}
        return {reference for known, reference in self._wanted if known == engine}

    def of(self, engine: str) -> list[PulledImage]:
        return self._read().get(engine, [])

    def settle(self, engine: str, used: Iterable[str], gone: Iterable[str]) -> None:
        """Image ids that are in use now, and those that are no more; written when it matters."""
        everything, now = self._read(), self._wall()
        using, without = set(used), set(gone)
        before = everything.get(engine, [])
        after = [one for one in before if one.image_id not in without]
        changed = len(after) != len(before)
        for one in after:
            if one.image_id in using and not 0 <= now - one.used_at < _USE_STEP_S:
                one.used_at, changed = now, True
        if changed:
            everything[engine] = after
            self._write({key: rows for key, rows in everything.items() if rows})

    def _read(self) -> dict[str, list[PulledImage]]:
        try:
            return _decoder.decode(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            log.warning("Record of pulled images cannot be read, they stay: %s", error)
            return {}

    def _write(self, everything: dict[str, list[PulledImage]]) -> None:
        try:
            make_directory(self._path.parent)
            write_atomic(self._path, msgspec.json.encode(everything))
        except OSError as error:
            log.warning("Record of pulled images cannot be written, they stay: %s", error)


@functools.cache
def pulled_images(directory: str) -> PulledImages:
    """The one of ``directory``: backends of one engine share what was wanted."""
    return PulledImages(directory)
