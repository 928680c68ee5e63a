"""The acceptor end of one peer link, as a pure machine (peer spec 3, 4, 5.8).

GREETING -> (hello response) -> ASKED -> (auth request) -> DECIDING -> (verdict) -> CONNECTED.
The shell performs ``Decide`` with ``coordinator_auth.decide`` and hands the verdict back by
``decided``: a frame in between is the dialer's mistake (C17).
"""

from collections.abc import Callable

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from kici.contracts.states import WireJobState
from kici.contracts.wire import Wire, encode
from kici.contracts.wire.peer import ToCoordinator
from kici.contracts.wire.peer.fleet import PeerLeaving
from kici.contracts.wire.peer.heartbeat import Capabilities, HeartbeatReceived, PeerHeartbeat
from kici.contracts.wire.peer.jobs import JobProgress
from kici.errors import RemoteError
from kici.protocol import handshake
from kici.protocol.coordinator_actions import (
    AcceptorSettings,
    Decide,
    Failed,
    Heard,
    Joined,
    Left,
    Phase,
)
from kici.protocol.coordinator_auth import Accepted, Refused, Verdict
from kici.protocol.coordinator_handshake import AcceptorHandshake
from kici.protocol.coordinator_liveness import Liveness
from kici.protocol.machine import Actions, Close, Note, Send
from kici.protocol.surrogates import mended

#: From the upgrade to acceptance (3.0, 2).
AUTH_TIMEOUT_S = 15.0
#: Frames in a row that do not decrypt: the keys differ, and nothing will ever mend that.
MAX_UNDECRYPTABLE = 10

_messages: msgspec.json.Decoder[ToCoordinator] = msgspec.json.Decoder(ToCoordinator)
_STATES = frozenset(WireJobState)


class CoordinatorSession:
    """Owns: keys, phase and timers of one accepted connection. Told by: its shell.

    ``entropy(n)`` gives n random bytes, ``wall()`` epoch milliseconds; ``private`` is a key
    made for this connection alone (C1).
    """

    def __init__(
        self,
        settings: AcceptorSettings,
        private: X25519PrivateKey,
        entropy: Callable[[int], bytes],
        wall: Callable[[], int],
    ) -> None:
        self.deadline: float | None = None
        self.phase = Phase.GREETING
        self.instance_id = ""
        self.role = ""
        self.draining = False
        #: The shell tells it of bytes, before it ticks.
        self.life = Liveness()
        self._settings = settings
        self._entropy = entropy
        self._wall = wall
        self._shake: AcceptorHandshake | None = AcceptorHandshake(
            settings.instance_id,
            settings.software_version,
            private,
            entropy(handshake.NONCE_BYTES),
        )
        self._software: str | None = None
        self._sealer: handshake.Sealer | None = None
        self._beat_at = 0.0
        self._undecryptable = 0

    # --- the machine's four inputs ---------------------------------------------------

    def start(self, now: float) -> Actions:
        """The upgrade is done: say hello at once (C1)."""
        self.deadline = now + AUTH_TIMEOUT_S
        assert self._shake is not None
        return [Send(self._shake.hello().decode())]

    def receive(self, message: str | bytes, now: float) -> Actions:
        """One data frame, text or binary."""
        if self.phase is Phase.CONNECTED:
            return self._on_sealed(message, now)
        if self.phase is Phase.GREETING:
            return self._on_hello_response(message)
        if self.phase is Phase.ASKED:
            return self._on_auth_request(message)
        if self.phase is Phase.DECIDING:
            return self._close(4003, "Frame during authentication")
        return []

    def tick(self, now: float) -> Actions:
        """Called at or after ``deadline``."""
        if self.deadline is None or now < self.deadline:
            return []
        if self.phase is not Phase.CONNECTED:
            return self._close(4002, "Auth timeout")
        if now - self.life.at >= self._settings.stale_after_s:
            silence = Note("warning", "Peer is silent", {"seconds": round(now - self.life.at)})
            return [silence, *self._close(4004, "Heartbeat timeout")]
        actions = self.beat(now) if now >= self._beat_at else []
        self._arm()
        return actions

    def lost(self, reason: str, now: float) -> Actions:
        """The connection is gone."""
        self.phase = Phase.CLOSED
        self.deadline = None
        return []

    # --- what the coordinator asks of it ---------------------------------------------

    def decided(self, verdict: Verdict, now: float) -> Actions:
        """The answer to ``Decide``."""
        if self.phase is not Phase.DECIDING:
            return []
        if isinstance(verdict, Refused):
            return self._refuse(verdict)
        return self._accept(verdict, now)

    def say(self, message: Wire) -> Actions:
        """Seal ``message`` for an authenticated peer; nothing when there is none."""
        return self._seal(message) if self.phase is Phase.CONNECTED else []

    def beat(self, now: float) -> Actions:
        """Our heartbeat, now: on its timer and when ``draining`` changes (C23, C57)."""
        self._beat_at = now + self._settings.heartbeat_interval_s
        return self.say(
            PeerHeartbeat(
                instance_id=self._settings.instance_id,
                term=0,
                leader_id=self._settings.instance_id,
                draining=self.draining,
                agents=(),
                capabilities=Capabilities(s3_log_access=False),
                config_version=0,
                registry_version=0,
                timestamp=self._wall(),
                version=self._settings.software_version,
            )
        )

    def end(self, code: int, reason: str, *, leaving: bool = False) -> Actions:
        """Close from our side; ``leaving`` says goodbye first (C57)."""
        goodbye: Actions = []
        if leaving:
            goodbye = self.say(PeerLeaving(instance_id=self._settings.instance_id, term=0))
        return [*goodbye, *self._close(code, reason)]

    # --- handshake -------------------------------------------------------------------

    def _on_hello_response(self, frame: str | bytes) -> Actions:
        assert self._shake is not None
        try:
            self._sealer = self._shake.derive(frame)
        except RemoteError as error:
            return self._close(error.code, error.reason)
        self.phase = Phase.GREETING if self._sealer is None else Phase.ASKED
        return []

    def _on_auth_request(self, frame: str | bytes) -> Actions:
        assert self._shake is not None
        assert self._sealer is not None
        try:
            request = self._shake.request(self._sealer, frame)
        except RemoteError as error:
            # Only what may be an attack on the secret counts, not plain mistakes (1.7).
            counted: Actions = [Failed()] if error.code == 4001 else []
            return [*counted, *self._close(error.code, error.reason)]
        self.instance_id = request.instance_id
        self._software = request.software_version
        self.phase = Phase.DECIDING
        return [Decide(request, self._shake.nonce, self._shake.transcript)]

    def _refuse(self, verdict: Refused) -> Actions:
        assert self._shake is not None
        actions: Actions = [Note("warning", "Peer refused", {"why": verdict.reason})]
        if verdict.answered:
            actions += self._seal(self._shake.refusal(verdict))
        if verdict.counted:
            actions.append(Failed())
        return [*actions, *self._close(verdict.code, verdict.reason)]

    def _accept(self, verdict: Accepted, now: float) -> Actions:
        assert self._shake is not None
        assert self._sealer is not None
        response, following = self._shake.acceptance(verdict, self._sealer)
        actions = self._seal(response)
        self._sealer, self._shake = following, None
        self.phase = Phase.CONNECTED
        self.role = verdict.role
        self.life.frame(now)
        actions += self.beat(now)
        self._arm()
        return [*actions, Joined(self.instance_id, self.role, self._software)]

    def _seal(self, message: msgspec.Struct) -> Actions:
        assert self._sealer is not None
        return [Send(self._sealer.seal(encode(message), self._entropy(handshake.IV_BYTES)))]

    # --- authenticated ---------------------------------------------------------------

    def _on_sealed(self, frame: str | bytes, now: float) -> Actions:
        assert self._sealer is not None
        plaintext = self._sealer.open(frame)
        if plaintext is None:
            return self._on_undecryptable()
        self._undecryptable = 0
        self.life.frame(now)  # any frame proves life, by our clock (C25)
        try:
            message = _messages.decode(mended(plaintext))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            # Unknown types, those that a worker must not send (C30), and what is nested
            # beyond our stack end here. The decoder's text names types and places; an
            # unknown type may be a long one.
            return [Note("warning", "Message dropped", {"why": str(error)[:200]})]
        return self._on_message(message)

    def _on_message(self, message: ToCoordinator) -> Actions:
        if isinstance(message, PeerLeaving):
            # For another id it is no business of this connection (C27).
            return [Left()] if message.instance_id == self.instance_id else []
        if isinstance(message, JobProgress) and message.state not in _STATES:
            return [Note("warning", "Message dropped", {"why": "unknown job state"})]
        if isinstance(message, HeartbeatReceived) and message.instance_id != self.instance_id:
            return [Note("warning", "Heartbeat carries another instance id", {}), Heard(message)]
        return [Heard(message)]

    def _on_undecryptable(self) -> Actions:
        self._undecryptable += 1
        hopeless = self._undecryptable >= MAX_UNDECRYPTABLE
        return self._close(4001, "Decryption failed") if hopeless else []

    def _arm(self) -> None:
        self.deadline = min(self._beat_at, self.life.at + self._settings.stale_after_s)

    def _close(self, code: int, reason: str) -> Actions:
        if self.phase is Phase.CLOSED:
            return []
        self.phase = Phase.CLOSED
        self.deadline = None
        return [Close(code, reason)]
