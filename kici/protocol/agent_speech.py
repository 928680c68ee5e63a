"""What an agent says and how it leaves: the ground of ``AgentClient`` (agent spec 1.12)."""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import msgspec

from kici.contracts.wire import Number, Wire, encode
from kici.contracts.wire.agent.jobs import JobDispatch, JobStatus
from kici.contracts.wire.agent.services import FleetBundleChunk
from kici.contracts.wire.agent.session import AgentStatus
from kici.protocol.agent_outbox import AgentOutbox, Gap
from kici.protocol.agent_timing import Timers
from kici.protocol.bundle_pieces import PIECE_BYTES, encoded
from kici.protocol.machine import Action, Actions, Close, Send

EXIT_OK = 0
#: SIGTERM ended a running job.
EXIT_STOPPED = 1
#: The worker was away for too long and there was nothing left to do.
EXIT_ABANDONED = 75
#: The worker refused this agent for good (4010 or ``auth.failure``).
EXIT_REFUSED = 77

CLOSE_TIMEOUT = 4002
CLOSE_REFUSED = 4010

#: How long a worker may take to answer ``auth.request`` or ``agent.register``.
ANSWER_S = 20.0
HEARTBEAT_S = 30.0
#: Nothing heard for this long: ping. Dead after ``SILENCE_S``: 90 s at most (A100).
PING_S = 20.0
SILENCE_S = 60.0
#: A ping behind unconfirmed frames, so that they can be forgotten.
CONFIRM_S = 0.25
#: A confirmed end is repeated when the link breaks this soon after: the worker may have
#: died between reading the frame and handing the job over.
LINGER_S = 5.0
#: SIGTERM: how long the terminal status may take to get through.
STOP_S = 3.0
#: A scaler-managed agent without work gives up on an absent worker after this time.
ABANDON_S = 900.0


class Dial(Action, frozen=True):
    """Connect; answer with ``opened`` or ``lost``."""


class Ping(Action, frozen=True):
    """Write a WebSocket ping behind all frames sent so far; answer with ``ponged``."""


class RunJob(Action, frozen=True):
    """Run it; answer with ``job_finished`` and, cleaned up, ``job_cleaned``. SECRETS."""

    dispatch: JobDispatch


class CancelJob(Action, frozen=True):
    """End the running job; ``force`` skips the grace time."""

    reason: str
    force: bool
    #: False when the agent itself stops: the job then ends as failed.
    on_request: bool = True


class GiveLogs(Action, frozen=True):
    """Make a bundle of what this agent knows of itself; answer with ``logs_made``."""

    request_id: str
    hours: float
    max_bytes: int


class Exit(Action, frozen=True):
    code: int
    reason: str


class ClientState(StrEnum):
    WAITING = "waiting"  # for the next attempt
    CONNECTING = "connecting"
    AUTHENTICATING = "authenticating"
    REGISTERING = "registering"
    REGISTERED = "registered"
    STOPPED = "stopped"


class AgentIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent says about itself. ``token`` is SECRET; ``facts`` are the optional
    fields of ``agent.register``. Durations in seconds."""

    agent_id: str
    labels: tuple[str, ...]
    token: str | None = None
    facts: dict[str, Any] = {}
    scaler_managed: bool = False
    idle_timeout_s: float = 5.0
    pending_timeout_s: float = 60.0
    job_heartbeat_s: float = 60.0


class Job(msgspec.Struct):
    run_id: str
    job_id: str
    n_cancels: int = 0
    finished: bool = False
    #: Lines said so far, by step.
    n_lines: dict[int, int] = msgspec.field(default_factory=dict)


def text_of(message: Wire) -> str:
    return encode(message).decode()


class AgentSpeech:
    """Owns: the connection's state, what is said and not yet delivered, the way out."""

    def __init__(
        self,
        identity: AgentIdentity,
        *,
        wall_ms: Callable[[], Number],
        new_id: Callable[[], str],
        random: Callable[[], float],
    ) -> None:
        self.identity = identity
        self.state = ClientState.WAITING
        self.outbox = AgentOutbox()
        self._wall_ms, self._new_id, self._random = wall_ms, new_id, random
        self._timers = Timers()
        self._n_attempts = 0
        self._lost_at: float | None = None
        self._job: Job | None = None
        self._next: JobDispatch | None = None
        #: Ends that were confirmed lately: until when they may be said again, and their frames.
        self._recent: dict[tuple[str, str], tuple[float, str]] = {}
        self._draining = False
        self._warm = False
        self._exit: Exit | None = None

    @property
    def registered(self) -> bool:
        return self.state is ClientState.REGISTERED

    @property
    def n_active(self) -> int:
        return 1 if self._job is not None else 0

    def _status(self, job: Job, state: str, data: dict[str, Any] | None) -> JobStatus:
        return JobStatus(
            message_id=self._new_id(),
            run_id=job.run_id,
            job_id=job.job_id,
            state=state,
            timestamp=self._wall_ms(),
            data=data,
        )

    def _agent_status(self) -> Actions:
        return self._say(
            AgentStatus(
                message_id=self._new_id(),
                agent_id=self.identity.agent_id,
                active_jobs=self.n_active,
            )
        )

    def _say(self, message: Wire) -> Actions:
        """For what loses its meaning with the connection."""
        return [Send(text_of(message))] if self.registered else []

    def logs_made(self, request_id: str, content: bytes) -> Actions:
        """The bundle as ordered chunks, the last one flagged (2.2.23)."""
        actions: Actions = []
        for seq, at in enumerate(range(0, max(len(content), 1), PIECE_BYTES)):
            chunk = FleetBundleChunk(
                request_id=request_id,
                seq=seq,
                is_last=at + PIECE_BYTES >= len(content),
                data_b64=encoded(content[at : at + PIECE_BYTES]),
            )
            actions += self._say(chunk)
        return actions

    def _keep(
        self,
        message: Wire,
        now: float,
        *,
        n_lines: int = 0,
        gap: Gap | None = None,
        ends_job: tuple[str, str] | None = None,
        first_line: int = 0,
    ) -> Actions:
        text = text_of(message)
        self.outbox.keep(text, n_lines=n_lines, gap=gap, ends_job=ends_job, first_line=first_line)
        if not self.registered:
            self.outbox.shed()
            return []
        self._confirm(now, soon=ends_job is not None)
        return [Send(text)]

    def _confirm(self, now: float, *, soon: bool) -> None:
        """Have the unconfirmed frames confirmed: ``soon`` when somebody waits for it."""
        if not len(self.outbox) or self.outbox.ping_in_flight:
            return  # one ping at a time: the pong comes here again
        if soon:
            self._timers.set("confirm", now)
        elif not self._timers.is_set("confirm"):
            self._timers.set("confirm", now + CONFIRM_S)

    def _arm_idle(self, now: float, wait_s: float) -> None:
        if not self.registered:
            self._arm_abandon(now)
        elif self.identity.scaler_managed and self._job is None and not self._warm:
            self._timers.set("idle", now + wait_s)

    def _arm_abandon(self, now: float) -> None:
        waiting = self.identity.scaler_managed and self._job is None
        if waiting and not self._timers.is_set("abandon"):
            self._timers.set("abandon", now + ABANDON_S)

    def _leave_if_done(self, now: float) -> Actions:
        if self._exit is None or self._job is not None:
            return []
        if self._exit.code == EXIT_REFUSED:
            return self._leave_now()
        if len(self.outbox) and (self.registered or self._timers.is_set("stop")):
            if self.registered:
                self._confirm(now, soon=True)
            return []
        if self.outbox.jobs_ended():
            return []  # perhaps nobody else knows it: for the next worker, or until we abandon
        return self._leave_now()

    def _leave_now(self) -> Actions:
        leaving = self._exit or Exit(EXIT_OK, "idle")
        self._timers = Timers()
        was, self.state = self.state, ClientState.STOPPED
        closing = was not in (ClientState.WAITING, ClientState.STOPPED)
        return [*([Close(1000, "Agent disconnect")] if closing else []), leaving]
