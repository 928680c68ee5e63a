"""The agent's end of the agent link, without IO (agent spec 1, 2, 6; points A86-A102).

The shell dials when told to, feeds frames and the time, and performs the actions. Job
execution is elsewhere: ``RunJob`` and ``CancelJob`` go out, ``job_*`` calls come back.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import msgspec

from kici.contracts.wire import Number, Wire, encode
from kici.contracts.wire.agent import (
    PROTOCOL_VERSION,
    AgentLog,
    AgentRegister,
    AgentStatus,
    AuthFailure,
    AuthRequest,
    AuthSuccess,
    ConfigAck,
    FleetBundleError,
    FleetLogsRequest,
    Heartbeat,
    InFlightJob,
    JobAck,
    JobCancel,
    JobDispatch,
    JobHeartbeat,
    JobReject,
    JobStatus,
    LogChunk,
    RegisterAck,
    StepStatus,
    ToAgent,
)
from kici.protocol.agent_outbox import AgentOutbox, Gap
from kici.protocol.agent_timing import Timers, backoff_s
from kici.protocol.machine import Action, Actions, Close, Note, Send

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


class _Head(msgspec.Struct, rename="camel"):
    """As much of a frame as a refusal needs (A102)."""

    type: str
    run_id: str | None = None
    job_id: str | None = None


class _Job(msgspec.Struct):
    run_id: str
    job_id: str
    n_cancels: int = 0
    finished: bool = False


_decoder = msgspec.json.Decoder(ToAgent)
_head_decoder = msgspec.json.Decoder(_Head)


class AgentClient:
    """Owns: the connection's state, the job slot, what is said and not yet delivered.

    Told by: the worker's frames, the executor (``job_*``), signals (``stop``, ``drain``).
    ``wall_ms`` gives wall-clock milliseconds, ``new_id`` message ids, ``random`` [0, 1).
    """

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
        self._job: _Job | None = None
        self._next: JobDispatch | None = None
        self._recent: dict[tuple[str, str], tuple[float, str]] = {}
        self._last_end: tuple[tuple[str, str], str] | None = None
        self._draining = False
        self._warm = False
        self._exit: Exit | None = None

    # --- the shell's side ------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        return self._timers.earliest

    @property
    def registered(self) -> bool:
        return self.state is ClientState.REGISTERED

    @property
    def n_active(self) -> int:
        return 1 if self._job is not None else 0

    def start(self, now: float) -> Actions:
        self._lost_at = now
        self._arm_abandon(now)
        return self._dial()

    def opened(self, now: float) -> Actions:
        """The socket is a WebSocket now."""
        self._timers.set("answer", now + ANSWER_S)
        self._heard(now)
        token = self.identity.token
        if token is None:
            return self._register()
        self.state = ClientState.AUTHENTICATING
        return [Send(_text(AuthRequest(token=token, protocol_version=PROTOCOL_VERSION)))]

    def receive(self, message: bytes | str, now: float) -> Actions:
        """One text frame. Unknown types and keys are ignored (A98)."""
        self._heard(now)
        try:
            body = _decoder.decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return self._undecodable(message, str(error))
        match body:
            case AuthSuccess() if self.state is ClientState.AUTHENTICATING:
                self._timers.set("answer", now + ANSWER_S)
                return self._register()
            case AuthFailure(reason=reason):
                return [Close(1000, "Auth failed"), *self._refused(reason, now)]
            case RegisterAck():
                return self._on_register_ack(body, now)
            case JobDispatch():
                return self._on_dispatch(body, now)
            case JobCancel():
                return self._on_cancel(body)
            case FleetLogsRequest(request_id=request_id):
                text = "this agent keeps no logs of its own"
                return self._say(FleetBundleError(request_id=request_id, message=text))
        return []

    def heard(self, now: float) -> None:
        """Any frame at all, also a ping: the worker lives."""
        self._heard(now)

    def ponged(self, now: float) -> Actions:
        """The pong to the last ``Ping``: all that was sent before it has been read."""
        self._heard(now)
        self._timers.clear("confirm")
        for key in self.outbox.ponged():
            if self._last_end is not None and self._last_end[0] == key:
                self._recent = {key: (now + LINGER_S, self._last_end[1])}
        if len(self.outbox):
            self._timers.set("confirm", now + CONFIRM_S)
        return self._leave_if_done()

    def lost(self, reason: str, now: float, code: int = 1006) -> Actions:
        """No connection: refused, closed or broken. Only 4010 is for ever (A96)."""
        if self.state is ClientState.STOPPED:
            return []
        if self.registered or self._lost_at is None:
            self._lost_at = now
        self.state = ClientState.WAITING
        self.outbox.lost()
        self._timers.clear("answer", "heartbeat", "ping", "silence", "confirm", "idle")
        if code == CLOSE_REFUSED:
            return self._refused(reason, now)
        if self._exit is not None and self._job is None:
            return self._leave_now()
        delay = backoff_s(self._n_attempts, self._random())
        self._n_attempts += 1
        self._timers.set("retry", now + delay)
        self._arm_abandon(now)
        fields = {"reason": reason, "code": code, "retry_in_s": round(delay, 1)}
        return [Note("warning", "Connection to orchestrator lost", fields)]

    def tick(self, now: float) -> Actions:
        actions: Actions = []
        for name in self._timers.due(now):
            actions += _ON_TIMER[name](self, now)
        return actions

    def drain(self, now: float) -> Actions:
        """SIGUSR1: finish the running job, take no other, leave."""
        self._draining = True
        if self._exit is None:
            self._exit = Exit(EXIT_OK, "drained")
        return self._leave_if_done()

    def stop(self, now: float) -> Actions:
        """SIGTERM: end the job, report it, leave (A99)."""
        self._draining = True
        self._timers.set("stop", now + STOP_S + (STOP_S if self._job else 0))
        if self._job is None:
            self._exit = Exit(EXIT_OK, "stopped")
            return self._leave_if_done()
        self._exit = Exit(EXIT_STOPPED, "stopped while a job was running")
        return [CancelJob("agent was stopped", force=False, on_request=False)]

    # --- the executor's side ---------------------------------------------------------

    def job_log(
        self, step_index: int, lines: tuple[str, ...], stream: str, at_ms: Number, now: float
    ) -> Actions:
        """Masked lines of the running job, in order."""
        if self._job is None:
            return []
        job = self._job
        chunk = LogChunk(
            message_id=self._new_id(),
            run_id=job.run_id,
            job_id=job.job_id,
            step_index=step_index,
            lines=lines,
            timestamp=at_ms,
            stream=stream or None,
        )
        gap = Gap(job.run_id, job.job_id, step_index)
        return self._keep(chunk, now, n_lines=len(lines), gap=gap)

    def job_step(
        self,
        step_index: int,
        step_name: str,
        state: str,
        now: float,
        *,
        data: dict[str, Any] | None = None,
        secrets_accessed: tuple[str, ...] | None = None,
        log_bytes: int | None = None,
    ) -> Actions:
        if self._job is None:
            return []
        status = StepStatus(
            message_id=self._new_id(),
            run_id=self._job.run_id,
            job_id=self._job.job_id,
            step_index=step_index,
            step_name=step_name,
            state=state,
            timestamp=self._wall_ms(),
            data=data,
            secrets_accessed=secrets_accessed,
            log_bytes_streamed=log_bytes,
        )
        return self._keep(status, now)

    def job_finished(self, state: str, data: dict[str, Any], now: float) -> Actions:
        """The one terminal status of the running job (A90)."""
        job = self._job
        if job is None or job.finished:
            return []
        job.finished = True
        status = self._status(job, state, data)
        self._last_end = ((job.run_id, job.job_id), _text(status))
        return self._keep(status, now, ends_job=(job.run_id, job.job_id))

    def job_cleaned(self, now: float) -> Actions:
        """Nothing of the job is left on this machine: the slot is free."""
        self._job = None
        self._timers.clear("job_heartbeat")
        actions = self._agent_status()
        if self._next is not None:
            dispatch, self._next = self._next, None
            return actions + self._begin(dispatch, now)
        self._arm_idle(now, self.identity.idle_timeout_s)
        return actions + self._leave_if_done()

    # --- handshake -------------------------------------------------------------------

    def _dial(self) -> Actions:
        self.state = ClientState.CONNECTING
        return [Dial()]

    def _register(self) -> Actions:
        self.state = ClientState.REGISTERING
        jobs = dict.fromkeys(self.outbox.jobs_ended())
        jobs.update(dict.fromkeys(self._recent))
        if self._job is not None:
            jobs[(self._job.run_id, self._job.job_id)] = None
        in_flight = tuple(InFlightJob(run_id=run_id, job_id=job_id) for run_id, job_id in jobs)
        agent_id = self.identity.agent_id
        message = AgentRegister(
            message_id=f"register-{agent_id}-{self._wall_ms():.0f}",
            agent_id=agent_id,
            labels=self.identity.labels,
            in_flight_jobs=in_flight or None,
            **self.identity.facts,
        )
        return [Send(_text(message))]

    def _on_register_ack(self, ack: RegisterAck, now: float) -> Actions:
        self.state = ClientState.REGISTERED
        self._n_attempts = 0
        self._warm = ack.warm_pool is True
        self._timers.clear("answer", "retry", "abandon")
        self._timers.set("heartbeat", now + HEARTBEAT_S)
        actions: Actions = [Note("info", "Registered with orchestrator", {})]
        actions += self._replay(now)
        config_id = f"config-ack-{self.identity.agent_id}-{self._wall_ms():.0f}"
        actions += self._say(ConfigAck(message_id=config_id, agent_id=self.identity.agent_id))
        pending = ack.pending_dispatch is True
        wait = self.identity.pending_timeout_s if pending else self.identity.idle_timeout_s
        self._arm_idle(now, wait)
        return actions + self._leave_if_done()

    def _replay(self, now: float) -> Actions:
        actions: Actions = []
        box = self.outbox
        if len(box) or box.gaps:
            away = now - (self._lost_at if self._lost_at is not None else now)
            n_lines = box.n_lines
            n_dropped = sum(box.gaps.values())
            text = (
                f"--- Orchestrator offline for {away:.0f}s. Replaying {len(box)} buffered events "
                f"and {n_lines} buffered log lines."
                + (f" {n_dropped} log lines dropped due to buffer overflow." if n_dropped else "")
                + " ---"
            )
            actions += self._say(
                AgentLog(
                    message_id=self._new_id(),
                    agent_id=self.identity.agent_id,
                    lines=(text,),
                    timestamp=self._wall_ms(),
                )
            )
        for gap, n_lines in box.gaps.items():
            actions += self._say(
                LogChunk(
                    message_id=self._new_id(),
                    run_id=gap.run_id,
                    job_id=gap.job_id,
                    step_index=gap.step_index,
                    lines=(f"[{n_lines} lines dropped due to backpressure]",),
                    timestamp=self._wall_ms(),
                )
            )
        box.gaps.clear()
        actions += [Send(text) for until, text in self._recent.values() if until > now]
        self._recent = {}
        actions += [Send(text) for text in box.unconfirmed()]
        if len(box):
            self._timers.set("confirm", now)
        self._lost_at = None
        return actions

    def _refused(self, reason: str, now: float) -> Actions:
        self._exit = Exit(EXIT_REFUSED, f"refused by the orchestrator: {reason}")
        self._timers.clear("retry", "idle")
        note = Note("error", "Orchestrator refused this agent", {"reason": reason})
        self._draining = True
        if self._job is None:
            return [note, *self._leave_now()]
        self._timers.set("stop", now + STOP_S * 2)
        return [note, CancelJob("agent was refused", force=True, on_request=False)]

    # --- jobs ------------------------------------------------------------------------

    def _on_dispatch(self, dispatch: JobDispatch, now: float) -> Actions:
        if self._job is not None:
            if (self._job.run_id, self._job.job_id) == (dispatch.run_id, dispatch.job_id):
                return self._ack(dispatch)
            if self._job.finished and self._next is None and not self._draining:
                # Only the clean-up of the last job is still under way.
                self._next = dispatch
                return self._ack(dispatch)
        if self._draining:
            return self._reject(dispatch.run_id, dispatch.job_id, "draining")
        if self._job is not None:
            return self._reject(dispatch.run_id, dispatch.job_id, "busy")
        return self._ack(dispatch) + self._begin(dispatch, now)

    def _begin(self, dispatch: JobDispatch, now: float) -> Actions:
        self._job = _Job(dispatch.run_id, dispatch.job_id)
        self._recent = {}
        self._timers.clear("idle")
        self._timers.set("job_heartbeat", now + self.identity.job_heartbeat_s)
        running = self._status(self._job, "running", None)
        return [*self._keep(running, now), RunJob(dispatch)]

    def _on_cancel(self, cancel: JobCancel) -> Actions:
        waiting = self._next
        if waiting is not None and waiting.job_id == cancel.job_id:
            self._next = None
            job = _Job(waiting.run_id, waiting.job_id)
            status = self._status(job, "cancelled", {"durationMs": 0, "error": cancel.reason})
            return self._say(status)
        job_now = self._job
        if job_now is None or job_now.job_id != cancel.job_id or job_now.finished:
            return [Note("info", "Cancel for a job that is not running here", {})]
        job_now.n_cancels += 1
        force = cancel.force is True or job_now.n_cancels > 1
        return [CancelJob(cancel.reason, force)]

    def _ack(self, dispatch: JobDispatch) -> Actions:
        return self._say(
            JobAck(
                message_id=self._new_id(),
                run_id=dispatch.run_id,
                job_id=dispatch.job_id,
                timestamp=self._wall_ms(),
            )
        )

    def _reject(self, run_id: str, job_id: str, reason: str) -> Actions:
        reject = JobReject(
            message_id=self._new_id(),
            run_id=run_id,
            job_id=job_id,
            timestamp=self._wall_ms(),
            reason=reason,
        )
        return self._say(reject) + self._agent_status()

    def _undecodable(self, message: bytes | str, error: str) -> Actions:
        """Ignored, except a dispatch that names its job: that is rejected (A102)."""
        try:
            head = _head_decoder.decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return [Note("warning", "Unreadable frame ignored", {})]
        if head.type == "job.dispatch" and head.run_id and head.job_id:
            return self._reject(head.run_id, head.job_id, f"invalid dispatch: {error}")
        return [Note("debug", "Frame ignored", {"type": head.type})]

    def _status(self, job: _Job, state: str, data: dict[str, Any] | None) -> JobStatus:
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

    # --- sending, leaving, timers ----------------------------------------------------

    def _say(self, message: Wire) -> Actions:
        """For what loses its meaning with the connection."""
        return [Send(_text(message))] if self.registered else []

    def _keep(
        self,
        message: Wire,
        now: float,
        *,
        n_lines: int = 0,
        gap: Gap | None = None,
        ends_job: tuple[str, str] | None = None,
    ) -> Actions:
        text = _text(message)
        self.outbox.keep(text, n_lines=n_lines, gap=gap, ends_job=ends_job)
        if not self.registered:
            self.outbox.shed()
            return []
        if not self.outbox.ping_in_flight and not self._timers.is_set("confirm"):
            self._timers.set("confirm", now if ends_job else now + CONFIRM_S)
        return [Send(text)]

    def _arm_idle(self, now: float, wait_s: float) -> None:
        if not self.registered:
            self._arm_abandon(now)
        elif self.identity.scaler_managed and self._job is None and not self._warm:
            self._timers.set("idle", now + wait_s)

    def _arm_abandon(self, now: float) -> None:
        waiting = self.identity.scaler_managed and self._job is None
        if waiting and not self._timers.is_set("abandon"):
            self._timers.set("abandon", now + ABANDON_S)

    def _leave_if_done(self) -> Actions:
        if self._exit is None or self._job is not None:
            return []
        if self._exit.code == EXIT_REFUSED:
            return self._leave_now()
        if len(self.outbox) and (self.registered or self._timers.is_set("stop")):
            return []
        return self._leave_now()

    def _leave_now(self) -> Actions:
        leaving = self._exit or Exit(EXIT_OK, "idle")
        self._timers = Timers()
        was, self.state = self.state, ClientState.STOPPED
        closing = was not in (ClientState.WAITING, ClientState.STOPPED)
        return [*([Close(1000, "Agent disconnect")] if closing else []), leaving]

    def _heard(self, now: float) -> None:
        if self.state in (ClientState.WAITING, ClientState.STOPPED):
            return
        self._timers.set("ping", now + PING_S)
        self._timers.set("silence", now + SILENCE_S)

    def _on_retry(self, now: float) -> Actions:
        return self._dial()

    def _on_answer(self, now: float) -> Actions:
        note = Note("warning", "Orchestrator does not answer the handshake", {})
        closing = Close(CLOSE_TIMEOUT, "Handshake timeout")
        return [note, closing, *self.lost("handshake timeout", now, CLOSE_TIMEOUT)]

    def _on_heartbeat(self, now: float) -> Actions:
        self._timers.set("heartbeat", now + HEARTBEAT_S)
        return self._say(Heartbeat(timestamp=self._wall_ms()))

    def _on_ping(self, now: float) -> Actions:
        self._timers.set("ping", now + PING_S)
        if self.outbox.ping_in_flight:
            return []
        self.outbox.pinged()
        return [Ping()]

    def _on_confirm(self, now: float) -> Actions:
        if self.outbox.ping_in_flight or not len(self.outbox):
            return []
        self.outbox.pinged()
        return [Ping()]

    def _on_silence(self, now: float) -> Actions:
        return [Close(1001, "No sign of life"), *self.lost("no sign of life", now)]

    def _on_idle(self, now: float) -> Actions:
        self._exit = self._exit or Exit(EXIT_OK, "idle")
        return self._leave_if_done()

    def _on_abandon(self, now: float) -> Actions:
        self._exit = Exit(EXIT_ABANDONED, "the orchestrator is gone")
        return self._leave_now() if self._job is None else []

    def _on_job_heartbeat(self, now: float) -> Actions:
        if self._job is None:
            return []
        self._timers.set("job_heartbeat", now + self.identity.job_heartbeat_s)
        job = self._job
        return self._say(
            JobHeartbeat(run_id=job.run_id, job_id=job.job_id, timestamp=self._wall_ms())
        )

    def _on_stop(self, now: float) -> Actions:
        return self._leave_now()


_ON_TIMER: dict[str, Callable[[AgentClient, float], Actions]] = {
    "retry": AgentClient._on_retry,
    "answer": AgentClient._on_answer,
    "heartbeat": AgentClient._on_heartbeat,
    "ping": AgentClient._on_ping,
    "confirm": AgentClient._on_confirm,
    "silence": AgentClient._on_silence,
    "idle": AgentClient._on_idle,
    "abandon": AgentClient._on_abandon,
    "job_heartbeat": AgentClient._on_job_heartbeat,
    "stop": AgentClient._on_stop,
}


def _text(message: Wire) -> str:
    return encode(message).decode()
