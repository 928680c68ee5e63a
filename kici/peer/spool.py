"""The bounded log spool while coordinators are away or slow (P63).

Frames are kept in order, per coordinator, in files; memory holds only counts. What does not
fit is counted per job, and a line in the log says how much is missing and where.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from kici.contracts.link import JobKey
from kici.contracts.link.views import SpoolState
from kici.contracts.wire import Number, encode
from kici.contracts.wire.peer.jobs import LogLine, PeerLogChunk
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
    #: It was sent on a connection that ended before its arrival was proven.
    doubtful: bool = False

    @property
    def key(self) -> JobKey:
        return JobKey(owner=self.owner, run_id=self.run_id, job_id=self.job_id)


class _Place(msgspec.Struct, frozen=True, rename="camel"):
    """Where in a job's log a frame belongs."""

    step_index: Number = 0
    first_line: int | None = None
    n_covered: int | None = None


class _Gap(msgspec.Struct):
    """Lines of one step that were lost in a row; ``first_line`` when they are numbered."""

    n_lines: int
    n_covered: int
    first_line: int | None


_frame = msgspec.msgpack.Decoder(Frame)
_place = msgspec.json.Decoder(_Place)


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
        self._gaps: dict[JobKey, dict[Number, _Gap]] = {}
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

    def put_back(self, frames: Sequence[Frame]) -> bool:
        """Frames of one coordinator, older than all it has here; False: not written."""
        records = [msgspec.msgpack.encode(frame) for frame in frames]
        try:
            self._queues[frames[0].owner].prepend(records)
        except OSError as error:
            log.error("Log spool cannot be written", extra={"error": str(error)})
            return False
        for frame, record in zip(frames, records, strict=True):
            self._count(frame.key, len(record))
        return True

    def finish(self, key: JobKey) -> list[Frame]:
        """Before a terminal report: let an open gap of this job be said. Returned is what
        the disk does not take even of that."""
        try:
            self._end_gap(key)
        except OSError as error:
            log.error("Log spool cannot be written", extra={"error": str(error)})
            gaps = self._gaps.pop(key, {})
            return [self._marker(key, step, gap) for step, gap in gaps.items()]
        return []

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
        """What an earlier process left. A file that a power cut left damaged is given up: what
        is counted must be there, or a terminal report would wait for it for ever."""
        try:
            found = [(_frame.decode(record).key, len(record)) for record in queue.scan()]
        except (msgspec.MsgspecError, ValueError, OSError) as error:
            log.error("Log spool cannot be read, its lines are lost", extra={"error": str(error)})
            queue.clear()
            return
        for key, n_bytes in found:
            self._count(key, n_bytes)

    def _write(self, frame: Frame) -> None:
        record = msgspec.msgpack.encode(frame)
        self._queues[frame.owner].append(record)
        self._count(frame.key, len(record))

    def _count(self, key: JobKey, n_bytes: int) -> None:
        self.n_bytes += n_bytes
        self._pending[key] += 1

    def _lose(self, frame: Frame) -> None:
        if frame.n_lines == 0:
            return  # a step update: the terminal report tells the same again
        place = _place.decode(frame.text)
        if not self._gaps:
            log.warning("Log spool is full, lines are lost", extra={"limitBytes": self._limit})
        gaps = self._gaps.setdefault(frame.key, {})
        gap = gaps.setdefault(place.step_index, _Gap(0, 0, place.first_line))
        gap.n_lines += frame.n_lines
        gap.n_covered += frame.n_lines if place.n_covered is None else place.n_covered
        self.n_lost_lines += frame.n_lines

    def doubt(self, frame: Frame, n_lines: int) -> Frame:
        """Stands for ``n_lines`` doubtful lines up to ``frame``: nobody shall get them twice."""
        text = (
            f"[kici-worker] up to {n_lines} log lines are missing here: the connection was lost "
            "before their receipt was known"
        )
        chunk = PeerLogChunk(
            run_id=frame.run_id,
            job_id=frame.job_id,
            step_index=_place.decode(frame.text).step_index,
            lines=(LogLine(text=text, timestamp=self._wall(), stream="stderr"),),
        )
        return msgspec.structs.replace(frame, n_lines=n_lines, text=encode(chunk), doubtful=False)

    def _end_gap(self, key: JobKey) -> None:
        gaps = self._gaps.pop(key, {})
        while gaps:
            step, gap = next(iter(gaps.items()))
            try:
                self._write(self._marker(key, step, gap))
            except OSError:
                self._gaps[key] = gaps
                raise
            del gaps[step]

    def _marker(self, key: JobKey, step: Number, gap: _Gap) -> Frame:
        n_lines = gap.n_covered
        text = f"[kici-worker] {n_lines} log lines are missing here: the log spool was full"
        numbered = gap.first_line is not None
        chunk = PeerLogChunk(
            run_id=key.run_id,
            job_id=key.job_id,
            step_index=step,
            lines=(LogLine(text=text, timestamp=self._wall(), stream="stderr"),),
            first_line=gap.first_line,
            n_covered=n_lines if numbered else None,
        )
        return Frame(key.owner, key.run_id, key.job_id, n_lines, encode(chunk))


def _name(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:16]
