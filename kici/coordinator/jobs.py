"""The tables of jobs and attempts: the truth that survives a restart (C52)."""

from collections.abc import Sequence
from sqlite3 import Row
from typing import Any

import msgspec

from kici.contracts.states import HELD_ENDED, HeldState
from kici.coordinator.steps import StepRows, packed
from kici.coordinator.store import Store

#: Ended jobs beyond this number go, with their logs, oldest first.
KEEP_ENDED = 2000
#: The same for the logs and steps of all jobs together: the disk of a small machine.
KEEP_LOG_BYTES = 2**30
#: What was tried for a job, the newest; a worker may have news of its scaler without end.
MAX_ATTEMPTS = 200
#: Characters of a worker's words about an attempt.
_MAX_OUTCOME, _MAX_REASON = 100, 2000
#: Attempts whose peer may still have the job, so must not get it again (C38): kept all.
_BURNING = "('timeout', 'moved')"
_ENDED = "(" + ",".join(f"'{state}'" for state in sorted(HELD_ENDED)) + ")"
_PUBLIC = (
    "number, job_id, run_id, name, workflow, labels, state, holder, created_at, accepted_at,"
    " started_at, finished_at, timeout_ms, reason, log_bytes, log_lines_dropped"
)


class JobRows:
    """Owns: the tables ``jobs`` and ``attempts``. Told by: the dispatcher."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.steps = StepRows(store)

    def add(
        self, job_id: str, run_id: str, name: str, workflow: str, labels: Sequence[str],
        timeout_ms: int | None, sealed: bytes,
    ) -> None:  # fmt: skip
        """A new job, queued; the caller commits."""
        self._store.write(
            "INSERT INTO jobs (job_id, run_id, name, workflow, labels, state, created_at,"
            " timeout_ms, sealed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            job_id, run_id, name, workflow, ",".join(labels), str(HeldState.QUEUED),
            self._store.wall(), timeout_ms, sealed,
        )  # fmt: skip

    def commit(self) -> None:
        """What was written is a promise from here on."""
        self._store.commit()

    def move(self, job_id: str, state: HeldState, holder: str | None) -> None:
        """The job is in ``state`` with ``holder``; the caller commits."""
        self._store.write(
            "UPDATE jobs SET state = ?, holder = ? WHERE job_id = ?", str(state), holder, job_id
        )

    def accepted(self, job_id: str, holder: str) -> None:
        self._store.write(
            "UPDATE jobs SET state = ?, holder = ?, accepted_at = ? WHERE job_id = ?",
            str(HeldState.ACCEPTED), holder, self._store.wall(), job_id,
        )  # fmt: skip
        self._store.commit()

    def requeued(self, job_id: str) -> None:
        """Nobody has the job any more; the caller commits."""
        self._store.write(
            "UPDATE jobs SET state = ?, holder = NULL, progress_at = NULL WHERE job_id = ?",
            str(HeldState.QUEUED), job_id,
        )  # fmt: skip

    def spoken_of(self, job_id: str) -> None:
        """Its holder knows of the job, whether it has begun or not."""
        self._store.write(
            "UPDATE jobs SET progress_at = ? WHERE job_id = ?", self._store.wall(), job_id
        )

    def running(self, job_id: str, at: int) -> None:
        """Progress arrived; the start time is set once (C61). Durable at the first report: a
        started job must never look as if it could be moved."""
        self._store.write(
            "UPDATE jobs SET state = ?, started_at = COALESCE(started_at, ?), progress_at = ?"
            " WHERE job_id = ?",
            str(HeldState.RUNNING), at, self._store.wall(), job_id,
        )  # fmt: skip

    def ended(self, job_id: str, state: HeldState, reason: str | None, data: Any) -> bool:
        """The job's end, durable when this returns; its payload goes. False when it had
        ended before: then nothing changes (C45, C50)."""
        changed = self._store.write(
            "UPDATE jobs SET state = ?, reason = ?, data = ?, finished_at = ?, sealed = NULL"
            f" WHERE job_id = ? AND state NOT IN {_ENDED}",
            str(state), reason, packed(data), self._store.wall(), job_id,
        )  # fmt: skip
        self.steps.end(job_id)
        self._store.commit()
        return bool(changed)

    def attempt(self, job_id: str, instance_id: str, outcome: str, reason: str | None) -> None:
        self._store.write(
            "INSERT INTO attempts VALUES (?, ?, ?, ?, ?)",
            job_id, instance_id, self._store.wall(), outcome[:_MAX_OUTCOME],
            None if reason is None else reason[:_MAX_REASON],
        )  # fmt: skip
        self._store.write(
            "DELETE FROM attempts WHERE rowid IN (SELECT rowid FROM attempts WHERE job_id = ?"
            f" AND outcome NOT IN {_BURNING} ORDER BY rowid DESC LIMIT -1 OFFSET ?)",
            job_id, MAX_ATTEMPTS,
        )  # fmt: skip

    # --- reading ---------------------------------------------------------------------

    def active(self) -> Sequence[Row]:
        """Every job that has not ended, oldest first, with its sealed payload."""
        return self._store.read(f"SELECT * FROM jobs WHERE state NOT IN {_ENDED} ORDER BY number")

    def burned(self, job_id: str) -> set[str]:
        """Peers that must not get the job again: they may have it (C38)."""
        rows = self._store.read(
            f"SELECT DISTINCT instance_id FROM attempts WHERE job_id = ? AND outcome IN {_BURNING}",
            job_id,
        )
        return {row[0] for row in rows}

    def listed(self, limit: int, state: str | None = None) -> list[dict[str, Any]]:
        """The newest jobs first, as the API shows them. Without ``data``: those of a
        thousand jobs may be 256 MB."""
        rows = self._store.read(
            f"SELECT {_PUBLIC} FROM jobs WHERE (? IS NULL OR state = ?)"
            " ORDER BY number DESC LIMIT ?",
            state, state, limit,
        )  # fmt: skip
        return [_shown(row) for row in rows]

    def shown(self, wanted: str) -> dict[str, Any] | None:
        """One job by its id, or by an unambiguous beginning of it of 4 characters or more."""
        rows = self._store.read(
            f"SELECT {_PUBLIC}, data FROM jobs WHERE job_id = ? OR (length(?) >= 4"
            " AND substr(job_id, 1, length(?)) = ?) ORDER BY job_id = ? DESC LIMIT 2",
            wanted, wanted, wanted, wanted, wanted,
        )  # fmt: skip
        if not rows or (len(rows) > 1 and rows[0]["job_id"] != wanted):
            return None
        job = _shown(rows[0])
        job["steps"] = self.steps.shown(job["jobId"])
        job["stepReportsDropped"] = self.steps.n_dropped(job["jobId"])
        job["attempts"] = [
            {"instanceId": r[0], "at": r[1], "outcome": r[2], "reason": r[3]}
            for r in self._store.read(
                "SELECT instance_id, at, outcome, reason FROM attempts WHERE job_id = ?"
                " ORDER BY rowid DESC LIMIT 100", job["jobId"],
            )
        ]  # fmt: skip
        return job

    def prune(self, keep: int = KEEP_ENDED, keep_log_bytes: int = KEEP_LOG_BYTES) -> int:
        """Drop the oldest ended jobs beyond either bound; how many."""
        return self._store.write(
            f"DELETE FROM jobs WHERE state IN {_ENDED} AND number IN"
            " (SELECT number FROM (SELECT number, ROW_NUMBER() OVER newest AS place,"
            " SUM(log_bytes + COALESCE(n_bytes, 0)) OVER newest AS total"
            " FROM jobs LEFT JOIN step_sums USING (job_id)"
            " WINDOW newest AS (ORDER BY number DESC)) WHERE place > ? OR total > ?)",
            keep, keep_log_bytes,
        )  # fmt: skip


def _shown(row: Row) -> dict[str, Any]:
    words = {key: row[key] for key in row.keys()}  # noqa: SIM118 - Row has no items()
    words["labels"] = [label for label in words["labels"].split(",") if label]
    if "data" in words:
        words["data"] = msgspec.json.decode(words["data"]) if words["data"] else None
    return {_camel(key): value for key, value in words.items()}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)
