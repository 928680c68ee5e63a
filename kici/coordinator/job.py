"""One job that has not ended, in memory. Its durable half is a row of ``jobs``."""

import msgspec

from kici.contracts.states import HELD_MOVES, HeldState, check_move
from kici.contracts.wire.peer.jobs import JobReroute
from kici.protocol.labels import Requirements, requirements

#: From sending the reroute to its acknowledgement (C36).
ACK_TIMEOUT_S = 15.0
#: From the acknowledgement to the first progress (C47). News from the worker's scaler begin
#: it anew, because a slow image pull is no dead worker, but never past ``SPAWN_LIMIT_S``.
SPAWN_WINDOW_S = 90.0
SPAWN_LIMIT_S = 900.0
#: The same from the return of a worker that has said nothing about the job yet. Its first words
#: may have been lost with the link, so it is long; our workers say them again at once.
RETURN_WINDOW_S = 900.0
#: A holder that is gone may come back for this long (C49, C50, C59).
HOLDER_GRACE_S = 120.0
#: A cancelled job whose end nobody reports is ended by us (C51).
CANCEL_DEADLINE_S = 60.0
#: A job that nobody takes.
QUEUE_TIMEOUT_S = 3600.0
#: Own deadline of a placed job: its time-out and this margin; jobs without get the default.
DEADLINE_MARGIN_S = 300.0
DEFAULT_DEADLINE_S = 24 * 3600.0

_DEADLINES = ("ack_until", "spawn_until", "gone_until", "cancel_until", "ends_at")
PLACED = frozenset({HeldState.ACCEPTED, HeldState.RUNNING, HeldState.CANCELLING})


class HeldJob(msgspec.Struct, kw_only=True, weakref=True):
    """``holder`` has the job, or is being asked while OFFERED. Times are monotonic seconds."""

    job_id: str
    run_id: str
    name: str
    labels: tuple[str, ...]
    need: Requirements
    reroute: JobReroute  # SECRET
    state: HeldState = HeldState.QUEUED
    holder: str | None = None
    # Correlates the acknowledgement; a late one of an earlier attempt has another id (C36).
    message_id: str = ""
    # Peers that may still have it, so must not get it again (C38).
    burned: set[str] = msgspec.field(default_factory=set)
    # Refused in this round; asked again when their back-off is over.
    waiting_since: float = 0.0
    ack_until: float | None = None
    spawn_until: float | None = None
    spawn_limit: float = 0.0
    # The holder has spoken of the job since it accepted it: it does not forget it (C47).
    spoken_of: bool = False
    gone_until: float | None = None
    cancel_until: float | None = None
    ends_at: float | None = None
    timeout_s: float | None = None
    cancel_reason: str = ""
    why: str = ""

    def move(self, state: HeldState) -> None:
        """Change state; an unlisted move is a bug of ours."""
        if state is not self.state:
            check_move(HELD_MOVES, f"job {self.job_id}", self.state, state)
            self.state = state

    def postpone(self, seconds: float) -> None:
        """Every deadline later: we were not there to hear anything."""
        self.waiting_since += seconds
        self.spawn_limit += seconds
        for name in _DEADLINES:
            until = getattr(self, name)
            if until is not None:
                setattr(self, name, until + seconds)

    def heard(self) -> None:
        """The holder knows of the job: silence proves nothing any more (C47)."""
        self.spoken_of = True
        self.spawn_until = None

    def placed(self, now: float) -> None:
        """A worker has it: from here on it has a deadline of its own."""
        if self.ends_at is None:
            life = DEFAULT_DEADLINE_S
            if self.timeout_s is not None:
                life = self.timeout_s + DEADLINE_MARGIN_S
            self.ends_at = now + life


def held_job(reroute: JobReroute, *, timeout_s: float | None, now: float) -> HeldJob:
    """A queued job for ``reroute``; its selector was checked when it was submitted."""
    need = requirements(
        runs_on=reroute.runs_on_labels,
        exclude=reroute.exclude_labels or (),
        patterns=reroute.runs_on_patterns or (),
        exclude_patterns=reroute.exclude_patterns or (),
    )
    return HeldJob(
        job_id=reroute.job_id,
        run_id=reroute.run_id,
        name=reroute.job_name,
        labels=tuple(reroute.runs_on_labels[0]),
        need=need,
        reroute=reroute,
        waiting_since=now,
        timeout_s=timeout_s,
    )
