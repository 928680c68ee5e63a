"""What happened lately: finished jobs, newest first, in memory and in one bounded file.

A projection: nothing is decided from it. Written only when a job ends; the web process is
the sole writer. Jobs that ended while no web process ran are missing: a gap is shown as a
gap, never filled by guessing.
"""

import os
from collections import deque
from time import monotonic

import gevent
import msgspec

from kici.contracts.link.views import JobView, StepView
from kici.protocol.urls import shown_url
from kici.shell.durable import write_atomic
from kici.shell.lines import append_line, read_lines

#: Entries kept in memory and, at the most, twice as many in the file.
KEEP = 500
FILE_NAME = "history.jsonl"
#: Ends of jobs within this time are one write: each write costs a flash card a page. What a
#: killed web process loses by it is shown as the gap that it is.
TOGETHER_S = 30.0


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str
    state: str
    duration_ms: int | None = None


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One finished job. Times are wall-clock seconds; ``boot`` names the web process that
    saw it: two neighbours with different boots have a gap between them."""

    owner: str
    run_id: str
    job_id: str
    job_name: str
    workflow_name: str
    status: str
    accepted_at: float
    started_at: float
    completed_at: float
    boot: str
    error: str | None = None
    agent_id: str | None = None
    scaler_name: str | None = None
    repo_url: str = ""
    ref: str = ""
    sha: str = ""
    request_id: str | None = None
    attempt: int = 1
    n_log_lines: int = 0
    steps: tuple[Step, ...] = ()

    @property
    def duration_ms(self) -> int:
        return max(0, round((self.completed_at - self.started_at) * 1000))


def entry_of(job: JobView, boot: str, now: float) -> Entry:
    """The history entry of a job that has just finished."""
    completed_at = job.completed_at or now
    return Entry(
        owner=shown_url(job.key.owner),
        run_id=job.key.run_id,
        job_id=job.key.job_id,
        job_name=job.job_name,
        workflow_name=job.workflow_name,
        status=job.outcome or "failed",
        accepted_at=job.accepted_at,
        # A job that never started has no duration: its end is its start.
        started_at=job.started_at or completed_at,
        completed_at=completed_at,
        boot=boot,
        error=job.error,
        agent_id=job.agent_id,
        scaler_name=job.scaler_name,
        repo_url=job.repo_url,
        ref=job.ref,
        sha=job.sha,
        request_id=job.request_id,
        attempt=job.attempt,
        n_log_lines=job.n_log_lines,
        steps=tuple(
            Step(name=step.name, state=step.state, duration_ms=_step_ms(step)) for step in job.steps
        ),
    )


def _step_ms(step: StepView) -> int | None:
    if step.started_at is None or step.ended_at is None:
        return None
    return max(0, round((step.ended_at - step.started_at) * 1000))


class History:
    """Owns: ``history.jsonl``. Told by: the pool's finished ``job.state``."""

    def __init__(self, path: str, boot: str, together_s: float = 0.0) -> None:
        """``together_s``: at most one write in so long, see ``TOGETHER_S``."""
        self.path = path
        self.boot = boot
        self._entries: deque[Entry] = deque()
        self._ends: dict[tuple[str, str, str, int], float] = {}
        #: Why the last write failed; empty when it did not. Shown in ``/status``.
        self.error = ""
        self._n_in_file = 0
        self._together_s = together_s
        self._unwritten: list[Entry] = []
        self._written_at = float("-inf")
        self._load()

    def __len__(self) -> int:
        return len(self._entries)

    def newest(self, limit: int) -> list[Entry]:
        return [self._entries[-1 - i] for i in range(min(limit, len(self._entries)))]

    def add(self, entry: Entry) -> bool:
        """Keep ``entry``; False when it is known already (a snapshot says things twice)."""
        if abs(self._ends.get(_name(entry), float("-inf")) - entry.completed_at) < 1:
            return False
        self._keep(entry)
        self._unwritten.append(entry)
        wait_s = self._written_at + self._together_s - monotonic()
        if wait_s <= 0 or len(self._unwritten) >= KEEP:
            self.flush()
        elif len(self._unwritten) == 1:
            gevent.spawn_later(wait_s, self.flush)
        return True

    def _keep(self, entry: Entry) -> None:
        if len(self._entries) >= KEEP:
            self._ends.pop(_name(self._entries.popleft()), None)
        self._entries.append(entry)
        self._ends[_name(entry)] = entry.completed_at

    def _load(self) -> None:
        for line in read_lines(self.path):
            self._n_in_file += 1
            try:
                self._keep(msgspec.json.decode(line, type=Entry))
            except msgspec.DecodeError:
                continue  # a line cut by a power loss, or of another version

    def flush(self) -> None:
        """Write what is not in the file yet."""
        entries, self._unwritten = self._unwritten, []
        if not entries:
            return
        self._written_at = monotonic()
        try:
            if self._n_in_file + len(entries) > 2 * KEEP:
                write_atomic(self.path, b"".join(_line(known) for known in self._entries))
                self._n_in_file = len(self._entries)
            else:
                append_line(self.path, b"".join(_line(entry) for entry in entries))
                self._n_in_file += len(entries)
            self.error = ""
        except OSError as error:
            # A full disk must not stop jobs: the memory still has it.
            self.error = f"{os.path.basename(self.path)}: {error.strerror}"


def _line(entry: Entry) -> bytes:
    return msgspec.json.encode(entry) + b"\n"


def _name(entry: Entry) -> tuple[str, str, str, int]:
    return (entry.owner, entry.run_id, entry.job_id, entry.attempt)
