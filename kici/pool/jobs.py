"""The job table: every job that was accepted and is not yet stored by the peer as ended."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from kici.contracts.link import JobKey
from kici.contracts.link.jobs import JobFinished
from kici.contracts.link.views import StepView
from kici.contracts.states import JOB_MOVES, UNPLACED, WAITING, JobState, check_move
from kici.pool.dispatch import JobSpec
from kici.protocol.line_numbers import LineNumbers


@dataclass(slots=True, kw_only=True)
class Job:
    """One row. Moments ending in ``_at`` are monotonic, in ``_wall`` wall-clock seconds.

    ``spec`` (payload, SECRET) is there until the job runs: whatever goes wrong before that,
    it can be dispatched again. It is None for a job adopted from the outbox's open records.
    """

    key: JobKey
    state: JobState
    spec: JobSpec | None
    accepted_at: float
    accepted_wall: float
    #: queued/starting: report failed; dispatched: no acknowledgement; cancelling: ended by
    #: us; recovering: the agent did not come back.
    deadline: float | None = None
    queue_until: float | None = None
    attempt: int = 0
    agent_id: str | None = None
    #: Moment after which another launch may be tried, and how many failed.
    launch_at: float = 0.0
    n_launches_failed: int = 0
    launch_until: float | None = None
    cancel_reason: str | None = None
    cancel_force: bool = False
    #: Its offer was refused meanwhile: its end here is nobody's.
    withdrawn: bool = False
    #: A label set of some scaler could serve it.
    matched: bool = False
    #: An agent has acknowledged it, or shown that it has it; the peer knows.
    delivered: bool = False
    started: bool = False
    cancelling_told: bool = False
    #: Some job.progress went out: the coordinator's 90 s spawn window is disarmed.
    announced: bool = False
    #: When ``running`` is said again, with ``job_keepalive`` (peer spec 5.7).
    alive_at: float | None = None
    outcome: str | None = None
    error: str | None = None
    finished: JobFinished | None = None
    #: The terminal report waits for late logs until then (A60), None once it went out.
    held_until: float | None = None
    quiet_at: float | None = None
    resend_at: float | None = None
    started_wall: float | None = None
    completed_wall: float | None = None
    steps: dict[int, StepView] = field(default_factory=dict)
    n_log_lines: int = 0
    #: What its agent said already: a reconnect repeats the last lines.
    numbers: LineNumbers = field(default_factory=LineNumbers)
    n_late_lines: int = 0
    scaler_name: str | None = None


class JobTable:
    """Owns: the rows, in order of acceptance. Told by: the core."""

    def __init__(self) -> None:
        self._rows: dict[JobKey, Job] = {}
        self._by_ids: dict[tuple[str, str], list[Job]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Job]:
        return iter(list(self._rows.values()))

    def add(self, job: Job) -> None:
        self.drop(job.key)
        self._rows[job.key] = job
        self._by_ids.setdefault((job.key.run_id, job.key.job_id), []).append(job)

    def drop(self, key: JobKey) -> None:
        job = self._rows.pop(key, None)
        if job is None:
            return
        ids = (key.run_id, key.job_id)
        same = self._by_ids[ids]
        same.remove(job)
        if not same:
            del self._by_ids[ids]

    def get(self, key: JobKey) -> Job | None:
        return self._rows.get(key)

    def named(self, run_id: str, job_id: str) -> list[Job]:
        """Rows of all coordinators with these ids: at most one each (P49)."""
        return self._by_ids.get((run_id, job_id), [])

    def waiting(self) -> list[Job]:
        """Jobs that no agent has, the oldest first."""
        return [job for job in self._rows.values() if job.state in WAITING]

    def unplaced(self) -> list[Job]:
        """Jobs that only this process could still give to an agent."""
        return [job for job in self._rows.values() if job.state in UNPLACED]

    def move(self, job: Job, state: JobState) -> None:
        check_move(JOB_MOVES, f"job {job.key.job_id}", job.state, state)
        job.state = state
