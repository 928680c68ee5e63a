"""The tables of steps: the latest report about each, bounded for each job (C43)."""

from collections.abc import Sequence
from sqlite3 import Row
from typing import Any

import msgspec

from kici.contracts.wire.peer.jobs import JobProgress
from kici.coordinator.store import Store
from kici.coordinator.times import whole
from kici.protocol.nesting import is_too_deep, may_be_deep

#: Steps of a job that are kept. Documents have 500 at most; workflows of the real agent may
#: have more, and a worker of another make may count without end.
MAX_ROWS = 2000
#: What the steps of a job say in detail, together.
MAX_DATA_BYTES = 4 * 2**20
#: Details of one step or job that are kept: an agent's ``data`` may be megabytes.
MAX_DETAIL_BYTES = 256 * 1024
#: Characters of a step's name.
MAX_NAME = 500
_TOO_DEEP = '{"error":"details that are nested too deeply are not kept"}'
_TOO_LARGE = '{"error":"details of more than 256 KiB are not kept"}'
_TOO_MUCH = '{"error":"not kept: the details of all steps are more than 4 MiB"}'


class StepRows:
    """Owns: the tables ``steps`` and ``step_sums``. Told by: the reports."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def report(self, job_id: str, report: JobProgress) -> None:
        """The latest report about one step; what is beyond a bound is counted."""
        index = whole(report.step_index)
        data = packed(report.data)
        known, n_rows, n_bytes, n_dropped = self._sums(job_id, index)
        if known is None and n_rows >= MAX_ROWS:
            self._store.write(
                "UPDATE step_sums SET n_dropped = n_dropped + 1 WHERE job_id = ?", job_id
            )
            return
        n_bytes -= known or 0
        if data is not None and n_bytes + len(data.encode()) > MAX_DATA_BYTES:
            data = _TOO_MUCH
            n_dropped += 1
        self._put(job_id, index, report, data)
        n_bytes += len(data.encode()) if data is not None else 0
        self._store.write(
            "INSERT OR REPLACE INTO step_sums VALUES (?, ?, ?, ?)",
            job_id, n_rows + (known is None), n_bytes, n_dropped,
        )  # fmt: skip

    def end(self, job_id: str) -> None:
        """The job has ended: nothing of it runs; the caller commits."""
        self._store.write(
            "UPDATE steps SET state = 'cancelled', finished_at = ? WHERE job_id = ?"
            " AND state = 'running'",
            self._store.wall(), job_id,
        )  # fmt: skip

    def n_dropped(self, job_id: str) -> int:
        """Reports of which nothing or not the details are kept."""
        row = self._store.one("SELECT n_dropped FROM step_sums WHERE job_id = ?", job_id)
        return row[0] if row else 0

    def shown(self, job_id: str) -> list[dict[str, Any]]:
        """All steps in their order, as the API shows them."""
        rows: Sequence[Row] = self._store.read(
            "SELECT step_index, name, state, started_at, finished_at, data FROM steps"
            " WHERE job_id = ? ORDER BY step_index", job_id,
        )  # fmt: skip
        return [
            {"index": r[0], "name": r[1], "state": r[2], "startedAt": r[3], "finishedAt": r[4],
             "data": msgspec.json.decode(r[5]) if r[5] else None}
            for r in rows
        ]  # fmt: skip

    def _sums(self, job_id: str, index: int) -> tuple[int | None, int, int, int]:
        """Bytes of the step's details (None: unknown step); rows, bytes, dropped of all."""
        old = self._store.one(
            "SELECT COALESCE(length(CAST(data AS BLOB)), 0) FROM steps"
            " WHERE job_id = ? AND step_index = ?", job_id, index,
        )  # fmt: skip
        row = self._store.one(
            "SELECT n_rows, n_bytes, n_dropped FROM step_sums WHERE job_id = ?", job_id
        )
        return (old[0] if old else None, *(row or (0, 0, 0)))

    def _put(self, job_id: str, index: int, report: JobProgress, data: str | None) -> None:
        at = whole(report.timestamp)
        running = report.state in ("running", "pending")
        self._store.write(
            "INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (job_id, step_index) DO UPDATE SET name = excluded.name,"
            " state = excluded.state, finished_at = excluded.finished_at, data = excluded.data",
            job_id, index, report.step_name[:MAX_NAME], report.state, at,
            None if running else at, data,
        )  # fmt: skip


def packed(data: Any) -> str | None:
    """Details as they are stored, or a word about why they are not."""
    if data is None:
        return None
    try:
        text = msgspec.json.encode(data)
    except RecursionError:  # read with more of the stack left than we have here
        return _TOO_DEEP
    if len(text) > MAX_DETAIL_BYTES:
        return _TOO_LARGE
    return _TOO_DEEP if may_be_deep(text) and is_too_deep(data) else text.decode()
