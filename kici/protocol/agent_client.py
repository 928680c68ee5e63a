"""The agent's end of the agent link, without IO (agent spec 1, 2, 6; points A86-A102).

The shell dials when told to, feeds frames and the time, and performs the actions. Job
execution is elsewhere: ``RunJob`` and ``CancelJob`` go out, ``job_*`` calls come back.
"""

from collections.abc import Callable

import msgspec

from kici.contracts.wire.agent import PROTOCOL_VERSION, ToAgent
from kici.contracts.wire.agent.jobs import JobCancel, JobDispatch
from kici.contracts.wire.agent.services import FleetLogsRequest
from kici.contracts.wire.agent.session import (
    AuthFailure,
    AuthRequest,
    AuthSuccess,
    Heartbeat,
    RegisterAck,
)
from kici.protocol.agent_registering import AgentRegistering
from kici.protocol.agent_speech import (
    ANSWER_S,
    CLOSE_REFUSED,
    CLOSE_TIMEOUT,
    EXIT_ABANDONED,
    EXIT_OK,
    EXIT_STOPPED,
    HEARTBEAT_S,
    LINGER_S,
    PING_S,
    SILENCE_S,
    STOP_S,
    CancelJob,
    ClientState,
    Exit,
    GiveLogs,
    Ping,
    text_of,
)
from kici.protocol.agent_timing import backoff_s
from kici.protocol.machine import Actions, Close, Note, Send
from kici.protocol.surrogates import mended


class _Head(msgspec.Struct, rename="camel"):
    """As much of a frame as a refusal needs (A102)."""

    type: str
    run_id: str | None = None
    job_id: str | None = None


_decoder = msgspec.json.Decoder(ToAgent)
_head_decoder = msgspec.json.Decoder(_Head)
#: What msgspec raises for bad input; the last one for thousands of levels.
_BAD_INPUT = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class AgentClient(AgentRegistering):
    """Owns: the connection's state, the job slot, what is said and not yet delivered.

    Told by: the worker's frames, the executor (``job_*``), signals (``stop``, ``drain``).
    ``wall_ms`` gives wall-clock milliseconds, ``new_id`` message ids, ``random`` [0, 1).
    """

    @property
    def deadline(self) -> float | None:
        return self._timers.earliest

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
        return [Send(text_of(AuthRequest(token=token, protocol_version=PROTOCOL_VERSION)))]

    def receive(self, message: bytes | str, now: float) -> Actions:
        """One text frame. Unknown types and keys are ignored (A98)."""
        self._heard(now)
        message = mended(message)
        try:
            body = _decoder.decode(message)
        except _BAD_INPUT as error:
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
                return self._on_cancel(body, now)
            case FleetLogsRequest():
                hours = float(body.log_window_hours)
                return [GiveLogs(body.request_id, hours, body.max_bytes)]
        return []

    def heard(self, now: float) -> None:
        """Any frame at all, also a ping: the worker lives."""
        self._heard(now)

    def ponged(self, now: float) -> Actions:
        """The pong to the last ``Ping``: all that was sent before it has been read."""
        self._heard(now)
        self._timers.clear("confirm")
        ended = {key: (now + LINGER_S, text) for key, text in self.outbox.ponged().items()}
        self._recent = ended or self._recent
        self._confirm(now, soon=bool(self.outbox.jobs_ended()))
        return self._leave_if_done(now)

    def lost(self, reason: str, now: float, code: int = 1006) -> Actions:
        """No connection: refused, closed or broken. Only 4010 is for ever (A96)."""
        if self.state is ClientState.STOPPED:
            return []
        if self.registered or self._lost_at is None:
            self._lost_at = now
        self.state = ClientState.WAITING
        for key, (until, text) in self._recent.items():
            if until > now:
                # Read by a worker that may be dead now: not said, whenever the next one comes.
                self.outbox.keep(text, ends_job=key)
        self._recent = {}
        self.outbox.lost()
        self._timers.clear("answer", "heartbeat", "ping", "silence", "confirm", "idle")
        if code == CLOSE_REFUSED:
            return self._refused(reason, now)
        if self._exit is not None and self._job is None and not self.outbox.jobs_ended():
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
        return self._leave_if_done(now)

    def stop(self, now: float) -> Actions:
        """SIGTERM: end the job, report it, leave (A99)."""
        self._draining = True
        self._timers.set("stop", now + STOP_S + (STOP_S if self._job else 0))
        if self._job is None:
            self._exit = Exit(EXIT_OK, "stopped")
            return self._leave_if_done(now)
        self._exit = Exit(EXIT_STOPPED, "stopped while a job was running")
        reason = "agent was stopped"
        ended = self._give_up_next("failed", reason, now)
        return [*ended, CancelJob(reason, force=False, on_request=False)]

    def _undecodable(self, message: bytes | str, error: str) -> Actions:
        """Ignored, except a dispatch that names its job: that is rejected (A102)."""
        try:
            head = _head_decoder.decode(message)
        except _BAD_INPUT:
            return [Note("warning", "Unreadable frame ignored", {})]
        if head.type == "job.dispatch" and head.run_id and head.job_id:
            return self._reject(head.run_id, head.job_id, f"invalid dispatch: {error}")
        return [Note("debug", "Frame ignored", {"type": head.type})]

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
        return self._leave_if_done(now)

    def _on_abandon(self, now: float) -> Actions:
        self._exit = Exit(EXIT_ABANDONED, "the orchestrator is gone")
        return self._leave_now() if self._job is None else []

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
