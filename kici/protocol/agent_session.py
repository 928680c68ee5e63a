"""One agent connection as the worker sees it (agent spec 1.3-1.11, 4.1). Pure.

``open -> PENDING_AUTH (token mode) -> PENDING_REGISTER -> REGISTERED -> OVER``. The shell
performs the actions strictly in order and hands frames in one by one, so a frame that comes
while a token is looked at simply waits (A18).
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

from kici.contracts.wire import Wire, encode
from kici.contracts.wire.agent.services import (
    FleetBundleChunk,
    FleetBundleError,
    ScalerClaimCredentials,
)
from kici.contracts.wire.agent.session import (
    AgentRegister,
    AuthFailure,
    AuthRequest,
    AuthSuccess,
    ErrorMessage,
    Heartbeat,
    RegisterAck,
)
from kici.errors import RemoteError
from kici.protocol.agent_actions import Bundled, PingAgent, Registration, Said
from kici.protocol.agent_answers import DROPPED, answer
from kici.protocol.agent_frames import is_sound, parse
from kici.protocol.agent_gates import INVALID, NOT_ALLOWED, Grant, check
from kici.protocol.agent_liveness import Liveness
from kici.protocol.machine import Actions, Close, Note, Send

#: Timers of 1.4 and 4.4, seconds.
AUTH_S = 5.0
REGISTER_S = 10.0
TIMEOUT = 4002
HEARTBEAT_TIMEOUT = 4004
#: Ours: 0.9.1's number is not known, and agents treat all codes but 4010 alike (1.8).
SUPERSEDED = 4012


class Phase(StrEnum):
    PENDING_AUTH = "pending-auth"
    PENDING_REGISTER = "pending-register"
    REGISTERED = "registered"
    OVER = "over"


class AgentSession:
    """Owns: the phase and the timers of one connection. Told by: the pool's agent server.

    ``verify`` gives the grant of a token or None; ``bind`` narrows a grant to the agent id
    and labels that register with it, None when it is not theirs (gate 2). ``verify`` None
    is the none mode.
    """

    def __init__(
        self,
        connection_id: str,
        *,
        verify: Callable[[str], Grant | None] | None,
        bind: Callable[[Any, str, Sequence[str]], Grant | None],
    ) -> None:
        self.connection_id = connection_id
        self.deadline: float | None = None
        self.phase = Phase.PENDING_AUTH if verify else Phase.PENDING_REGISTER
        self.grant: Grant | None = None
        self.agent_id: str | None = None
        self._verify = verify
        self._bind = bind
        self._liveness: Liveness | None = None

    # --- the machine's interface -----------------------------------------------------

    def start(self, now: float) -> Actions:
        """The socket is open."""
        self.deadline = now + (AUTH_S if self.phase is Phase.PENDING_AUTH else REGISTER_S)
        return []

    def receive(self, message: str | bytes, now: float) -> Actions:
        """One text or binary frame (1.1: both are taken)."""
        if self.phase is Phase.OVER:
            return []
        parsed = parse(message)
        if isinstance(parsed, ScalerClaimCredentials):
            # In every phase, and without touching the timers (2.3).
            return self._answered(parsed)
        if self.phase is Phase.PENDING_AUTH:
            return self._authenticate(parsed, now)
        if self.phase is Phase.PENDING_REGISTER:
            return self._first_register(parsed)
        if self._liveness is not None:
            self._liveness.frame(now)
        return self._registered_frame(parsed)

    def tick(self, now: float) -> Actions:
        """Call at ``deadline``."""
        if self.deadline is None or now < self.deadline or self.phase is Phase.OVER:
            return []
        if self.phase is Phase.PENDING_AUTH:
            return self._over(TIMEOUT, "Auth timeout")
        if self.phase is Phase.PENDING_REGISTER:
            return self._over(TIMEOUT, "Registration timeout")
        return self._check_liveness(now)

    def lost(self, reason: str, now: float) -> Actions:
        """The socket is gone."""
        self.phase, self.deadline = Phase.OVER, None
        return []

    # --- told by the shell -----------------------------------------------------------

    def registered(self, ack: RegisterAck, now: float) -> Actions:
        """The core took the registration; the ack goes out before anything else (A15)."""
        self.phase = Phase.REGISTERED
        self.agent_id = ack.agent_id
        if self._liveness is None:
            self._liveness = Liveness(now)
        self.deadline = self._liveness.deadline
        return [_send(ack)]

    def refused(self, error: RemoteError) -> Actions:
        """Gate 3 or the core said no."""
        return self._over(error.code, error.reason)

    def revoked(self) -> Actions:
        """The token was revoked: this is the agent's end (A26)."""
        return [
            _send(AuthFailure(reason="Token revoked")),
            *self._over(NOT_ALLOWED, "Token revoked"),
        ]

    def superseded(self) -> Actions:
        """Another connection of the same agent took over (A17)."""
        return self._over(SUPERSEDED, "Superseded by reconnect")

    def closing(self, code: int, reason: str) -> Actions:
        """The core wants this connection ended."""
        return self._over(code, reason)

    def heard(self, at: float) -> None:
        """Some byte arrived, at ``at``: a pong counts here, though it is no frame."""
        if self._liveness is not None:
            self._liveness.byte(at)

    def paused(self, paused: bool, now: float) -> None:
        """While we do not read, silence is our own doing."""
        if self._liveness is not None:
            self._liveness.pause(paused, now)

    # --- authentication and registration ---------------------------------------------

    def _authenticate(self, parsed: object, now: float) -> Actions:
        if not (isinstance(parsed, AuthRequest) and is_sound(parsed)):
            return self._auth_failed("First message must be auth.request", "Invalid auth message")
        assert self._verify is not None
        grant = self._verify(parsed.token)
        if grant is None:
            return self._auth_failed("Invalid or expired token", "Authentication failed")
        self.grant = grant
        self.phase, self.deadline = Phase.PENDING_REGISTER, now + REGISTER_S
        return [_send(AuthSuccess(connection_id=self.connection_id))]

    def _auth_failed(self, reason: str, close_reason: str) -> Actions:
        return [
            _send(AuthFailure(reason=reason)),
            Note("warn", "Agent auth failed: invalid or expired token", {"reason": reason}),
            *self._over(NOT_ALLOWED, close_reason),
        ]

    def _first_register(self, parsed: object) -> Actions:
        if self._verify is None and isinstance(parsed, AuthRequest):
            # None mode: whatever the token is; the timer goes on (A8).
            return [_send(AuthSuccess(connection_id=self.connection_id))]
        if not isinstance(parsed, AgentRegister) or not is_sound(parsed):
            return self._over(INVALID, "First message must be agent.register")
        return self._register(parsed, again=False)

    def _register(self, message: AgentRegister, *, again: bool) -> Actions:
        if again and message.agent_id != self.agent_id:
            # The reference leaves a phantom entry behind (1.8).
            return self._over(INVALID, "agentId changed on a registered connection")
        problem = check(message, self.grant)
        if problem is None and self.grant is not None:
            problem = self._bind_grant(message)
        if problem is not None:
            return self._over(problem.code, problem.reason)
        return [Registration(message, self.grant, again)]

    def _bind_grant(self, message: AgentRegister) -> RemoteError | None:
        """Gate 2 (A11)."""
        bound = self._bind(self.grant, message.agent_id, message.labels)
        if bound is None:
            return RemoteError(NOT_ALLOWED, "Token was issued to another agent")
        self.grant = bound
        return None

    # --- registered ------------------------------------------------------------------

    def _registered_frame(self, parsed: object) -> Actions:
        if not isinstance(parsed, Wire) or isinstance(parsed, AuthRequest):
            return self._invalid()
        if not is_sound(parsed):
            return self._invalid()
        if isinstance(parsed, AgentRegister):
            return self._register(parsed, again=True)
        if isinstance(parsed, (Heartbeat, *DROPPED)):
            return []
        if isinstance(parsed, FleetBundleChunk | FleetBundleError):
            return [Bundled(parsed)]
        return self._answered(parsed) or [Said(parsed)]

    def _answered(self, message: Wire) -> Actions:
        reply = answer(message)
        return [] if reply is None else [_send(reply)]

    def _invalid(self) -> Actions:
        """A19, A23a."""
        return [
            _send(ErrorMessage(code="INVALID_MESSAGE", message="Invalid message format")),
            *self._over(INVALID, "Invalid message format"),
        ]

    def _check_liveness(self, now: float) -> Actions:
        assert self._liveness is not None
        reason, sickened, ping = self._liveness.check(now)
        if reason:
            return self._over(HEARTBEAT_TIMEOUT, reason)
        self.deadline = self._liveness.deadline
        actions: Actions = []
        if sickened:
            actions.append(Note("warn", "Agent unhealthy", {"agentId": self.agent_id}))
        if ping:
            actions.append(PingAgent())
        return actions

    def _over(self, code: int, reason: str) -> Actions:
        if self.phase is Phase.OVER:
            return []
        self.phase, self.deadline = Phase.OVER, None
        return [Close(code, reason)]


def _send(message: Wire) -> Send:
    return Send(encode(message).decode("utf-8"))
