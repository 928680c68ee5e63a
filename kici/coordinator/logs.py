"""The log of each job: chunks in the order of arrival, bounded, followed live (C53)."""

from collections.abc import Sequence
from typing import Any

import msgspec
from gevent.event import Event

from kici.contracts.wire.peer.jobs import LogLine, PeerLogChunk
from kici.coordinator.store import Store
from kici.coordinator.times import whole
from kici.protocol.line_numbers import MAX_STEPS, LineNumbers

#: What is stored of one job's log; beyond it lines are counted, not kept.
MAX_LOG_BYTES = 64 * 2**20
#: What one answer to a reader holds.
READ_BYTES = 1 * 2**20

_encode = msgspec.json.encode


class Logs:
    """Owns: the table ``log_chunks`` and who waits for more. Told by: the dispatcher."""

    def __init__(self, store: Store, max_bytes: int = MAX_LOG_BYTES) -> None:
        self._store = store
        self._max_bytes = max_bytes
        # Bytes stored and lines dropped of jobs that still write; read back after a restart.
        self._sizes: dict[str, list[int]] = {}
        self._numbers: dict[str, LineNumbers] = {}
        self._waiting: dict[str, Event] = {}
        # Lines without numbers that are not committed, by job: a failed commit loses and
        # counts them. Of numbered ones the next line tells, or the length of the step.
        self._pending: dict[str, int] = {}
        store.on_outcome = self._settled

    def append(self, job_id: str, chunk: PeerLogChunk) -> None:
        """Store a chunk; the caller has checked who sent it."""
        default = self._store.wall() if chunk.timestamp is None else chunk.timestamp
        lines = [_line(line, default) for line in chunk.lines]
        step_index = whole(chunk.step_index)
        if chunk.first_line is not None:
            lines = self._fitting(job_id, step_index, chunk, lines)
        elif lines:
            self._pending[job_id] = self._pending.get(job_id, 0) + len(lines)
        if lines:
            self._append(job_id, step_index, lines)

    def finish(self, job_id: str, totals: Any = None, notes: Sequence[str] = ()) -> None:
        """The job has ended: say what is missing, let the readers go. ``totals``: lines that
        each step wrote, by its number as text, as our agents say. ``notes`` of ours follow."""
        if isinstance(totals, dict):
            self._end_steps(job_id, totals)
        size = self._size(job_id)
        if size[1]:
            self._insert(job_id, -1, [self._marker(f"{size[1]} lines were not stored")])
        for note in notes:
            self._insert(job_id, -1, [self._marker(note)])
        self.wake(job_id)

    def forget(self, job_id: str) -> None:
        """Its end is durable: no more lines will come."""
        self._sizes.pop(job_id, None)
        self._numbers.pop(job_id, None)

    def wake(self, job_id: str) -> None:
        """There is news for whoever follows the job."""
        event = self._waiting.pop(job_id, None)
        if event is not None:
            event.set()

    def wait(self, job_id: str, timeout_s: float) -> None:
        """Return when there is news, at the latest after ``timeout_s``."""
        self._waiting.setdefault(job_id, Event()).wait(timeout_s)

    def read(self, job_id: str, after: int) -> tuple[list[dict[str, Any]], int]:
        """Chunks after ``after``, at most about 1 MiB, and the number to go on from."""
        chunks: list[dict[str, Any]] = []
        n_bytes = 0
        rows = self._store.read(
            "SELECT number, step_index, lines FROM log_chunks WHERE job_id = ? AND number > ?"
            " ORDER BY number LIMIT 500",
            job_id, after,
        )  # fmt: skip
        for number, step_index, lines in rows:
            chunks.append({"step": step_index, "lines": msgspec.Raw(lines)})
            after = number
            n_bytes += len(lines)
            if n_bytes >= READ_BYTES:
                break
        return chunks, after

    def _fitting(
        self, job_id: str, step_index: int, chunk: PeerLogChunk, lines: list[LogLine]
    ) -> list[LogLine]:
        """What is new of numbered lines, behind a word about what is missing. Their numbers
        are committed together with them."""
        numbers = self._numbers.get(job_id)
        if numbers is None:
            rows = self._store.read(
                "SELECT step_index, next_line FROM log_lines WHERE job_id = ?", job_id
            )
            numbers = self._numbers[job_id] = LineNumbers({row[0]: row[1] for row in rows})
        fit = numbers.fit(step_index, chunk.first_line, len(lines), chunk.n_covered)
        if step_index in numbers.next:
            self._store.write(
                "INSERT INTO log_lines VALUES (?, ?, ?) ON CONFLICT (job_id, step_index)"
                " DO UPDATE SET next_line = excluded.next_line",
                job_id, step_index, numbers.next[step_index],
            )  # fmt: skip
        kept = lines[fit.skip :]
        if fit.n_gone:
            # Its own words, unless a part of what they count is here.
            exact = fit.n_gone == chunk.n_covered
            kept = lines if exact else [self._marker(f"{fit.n_gone} lines are missing here")]
        if fit.n_missing:
            why = "a process that held them died, or a disk was full"
            kept = [self._marker(f"{fit.n_missing} lines are missing here: {why}"), *kept]
        return kept

    def _end_steps(self, job_id: str, totals: dict[str, Any]) -> None:
        """What is missing behind the last line of a step."""
        for step, n_lines in list(totals.items())[:MAX_STEPS]:
            if isinstance(n_lines, int) and step.removeprefix("-").isdecimal() and len(step) < 10:
                end = PeerLogChunk(
                    run_id="", job_id=job_id, step_index=int(step), lines=(), first_line=n_lines
                )
                self.append(job_id, end)

    def _append(self, job_id: str, step_index: int, lines: Sequence[LogLine]) -> None:
        size = self._size(job_id)
        if size[0] >= self._max_bytes:
            size[1] += len(lines)
            self._store.write(
                "UPDATE jobs SET log_lines_dropped = ? WHERE job_id = ?", size[1], job_id
            )
            return
        size[0] += self._insert(job_id, step_index, lines)
        if size[0] >= self._max_bytes:
            limit = f"log limit of {self._max_bytes} bytes reached"
            self._insert(job_id, -1, [self._marker(limit)])
        self._store.write("UPDATE jobs SET log_bytes = ? WHERE job_id = ?", size[0], job_id)
        self.wake(job_id)

    def _settled(self, committed: bool) -> None:
        if not committed:
            self._numbers.clear()
            for job_id, n_lines in self._pending.items():
                self._sizes.setdefault(job_id, [0, 0])[1] += n_lines
        self._pending.clear()

    def _insert(self, job_id: str, step_index: int, lines: Sequence[LogLine]) -> int:
        encoded = _encode(lines)
        self._store.write(
            "INSERT INTO log_chunks (job_id, step_index, lines) VALUES (?, ?, ?)",
            job_id, step_index, encoded,
        )  # fmt: skip
        return len(encoded)

    def _marker(self, text: str) -> LogLine:
        return LogLine(text=f"[kici] {text}", timestamp=self._store.wall(), stream="stderr")

    def _size(self, job_id: str) -> list[int]:
        size = self._sizes.get(job_id)
        if size is None:
            row = self._store.one(
                "SELECT log_bytes, log_lines_dropped FROM jobs WHERE job_id = ?", job_id
            )
            size = self._sizes[job_id] = [row[0], row[1]] if row else [0, 0]
        return size


def _line(line: LogLine | str, default_at: float) -> LogLine:
    if isinstance(line, LogLine):
        return line
    return LogLine(text=line, timestamp=default_at, stream="stdout")
