"""The bounded log spool while coordinators are away or slow (house.md 3.6, P63).

Frames are kept in order, per coordinator, in files; memory holds only counts. What does not
fit is counted per job, and a line in the log says how much is missing and where.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from kici.contracts.link import JobKey
from kici.contracts.link.views import SpoolState
from kici.contracts.wire import Number, encode
from kici.contracts.wire.peer import LogLine, PeerLogChunk
from kici.shell import durable
from kici.shell.segments import Segments

log = logging.getLogger("kici.peer")


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """One message to send later; ``n_lines`` is 0 for a step update."""

    owner: str
    run_id: str
    job_id: str
    n_lines: int
    text: bytes

    @property
    def key(self) -> JobKey:
        return JobKey(owner=self.owner, run_id=self.run_id, job_id=self.job_id)


class _Step(msgspec.Struct, frozen=True, rename="camel"):
    step_index: Number = 0


_frame = msgspec.msgpack.Decoder(Frame)
_step = msgspec.json.Decoder(_Step)


class Spool:
    """Owns: the spool directory; its bound holds for all coordinators together.

    ``wall()`` gives epoch milliseconds. A disk that refuses counts as a full spool.
    """

    def __init__(
        self, directory: Path, urls: Iterable[str], limit_bytes: int, wall: Callable[[], int]
    ) -> None:
        self._limit = limit_bytes
        self._wall = wall
        self.n_bytes = 0
        self.n_lost_lines = 0
        self._pending: Counter[JobKey] = Counter()
        self._gaps: dict[JobKey, tuple[int, Number]] = {}
        durable.make_directory(directory)
        self._queues = {url: Segments(directory, _name(url)) for url in urls}
        for queue in self._queues.values():
            self._recount(queue)

    @property
    def is_full(self) -> bool:
        return self.n_bytes >= self._limit

    def holds(self, url: str) -> bool:
        return self._queues[url].first() is not None

    def pending(self, key: JobKey) -> int:
        """Frames of this job that are not sent yet."""
        return self._pending[key]

    def append(self, frame: Frame, *, beyond: bool = False) -> bool:
        """Keep ``frame``; ``beyond`` ignores the bound. False: lost, and counted as a gap."""
        if self.is_full and not beyond:
            self._lose(frame)
            return False
        try:
            self._end_gap(frame.key)
            self._write(frame)
        except OSError as error:
            if not self._gaps:
                log.error("Log spool cannot be written", extra={"error": str(error)})
            self._lose(frame)
            return False
        return True

    def finish(self, key: JobKey) -> None:
        """Before a terminal report: let an open gap of this job be said."""
        try:
            self._end_gap(key)
        except OSError as error:
            log.error("Log spool cannot be written", extra={"error": str(error)})
            self._gaps.pop(key, None)

    def first(self, url: str) -> Frame | None:
        """The oldest frame for ``url``, left in place until ``drop``."""
        record = self._queues[url].first()
        return None if record is None else _frame.decode(record)

    def drop(self, url: str) -> Frame | None:
        """The oldest frame is dealt with; returns it."""
        record = self._queues[url].first()
        if record is None:
            return None
        self._queues[url].drop(record)
        frame = _frame.decode(record)
        self.n_bytes -= len(record)
        self._pending[frame.key] -= 1
        if self._pending[frame.key] <= 0:
            del self._pending[frame.key]
        if self._queues[url].first() is None:
            self._queues[url].clear()
        return frame

    def state(self, rev: int) -> SpoolState:
        return SpoolState(
            rev=rev,
            n_bytes=self.n_bytes,
            limit_bytes=self._limit,
            n_lost_lines=self.n_lost_lines,
        )

    def close(self) -> None:
        for queue in self._queues.values():
            queue.close()

    def _recount(self, queue: Segments) -> None:
        """What an earlier process left; a file that is no spool file is given up."""
        try:
            for record in queue.scan():
                self._count(_frame.decode(record), len(record))
        except (msgspec.DecodeError, OSError) as error:
            log.error("Log spool cannot be read, its lines are lost", extra={"error": str(error)})
            queue.clear()

    def _write(self, frame: Frame) -> None:
        record = msgspec.msgpack.encode(frame)
        self._queues[frame.owner].append(record)
        self._count(frame, len(record))

    def _count(self, frame: Frame, n_bytes: int) -> None:
        self.n_bytes += n_bytes
        self._pending[frame.key] += 1

    def _lose(self, frame: Frame) -> None:
        n_lines, step = self._gaps.get(frame.key, (0, _step.decode(frame.text).step_index))
        if not self._gaps:
            log.warning("Log spool is full, lines are lost", extra={"limitBytes": self._limit})
        self._gaps[frame.key] = (n_lines + frame.n_lines, step)
        self.n_lost_lines += frame.n_lines

    def _end_gap(self, key: JobKey) -> None:
        gap = self._gaps.pop(key, None)
        if gap is None:
            return
        n_lines, step = gap
        text = f"[kici-worker] {n_lines} log lines are missing here: the log spool was full"
        now = self._wall()
        chunk = PeerLogChunk(
            run_id=key.run_id,
            job_id=key.job_id,
            step_index=step,
            lines=(LogLine(text=text, timestamp=now, stream="stderr"),),
        )
        try:
            self._write(Frame(key.owner, key.run_id, key.job_id, 1, encode(chunk)))
        except OSError:
            self._gaps[key] = gap
            raise


def _name(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:16]
