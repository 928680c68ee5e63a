"""The dialer end of one peer link, as a pure machine (peer spec 3, 4, 5.1).

HANDSHAKING -> (hello) -> AUTHENTICATING -> (accepted) -> CONNECTED -> DISCONNECTED. The shell
performs ``Choose`` by calling ``authenticate``; frames are the raw text of the socket.
"""

from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from kici.contracts.states import ConnectionState
from kici.contracts.wire import encode
from kici.contracts.wire.peer import MAX_PLAINTEXT_BYTES
from kici.protocol.heartbeat import Advert
from kici.protocol.machine import Actions, Close, Note, Send
from kici.protocol.peer_actions import (
    HANDSHAKE_TIMEOUT_S,
    MAX_UNDECRYPTABLE,
    Authentication,
    Joined,
    PeerSettings,
)
from kici.protocol.peer_join import PeerJoin
from kici.protocol.peer_link import PeerLink, PlainSend


class PeerSession:
    """Owns: state, keys and timers of one connection. Told by: its shell.

    ``private`` is made for this connection alone; ``entropy(n)`` gives n random bytes.
    """

    def __init__(
        self,
        settings: PeerSettings,
        link: PeerLink,
        private: X25519PrivateKey,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._join = PeerJoin(settings, private, entropy)
        self._entropy = entropy
        self._undecryptable = 0
        self._give_up_at: float | None = None
        self.link = link
        self.state = ConnectionState.HANDSHAKING

    @property
    def connected(self) -> bool:
        return self.state is ConnectionState.CONNECTED

    @property
    def deadline(self) -> float | None:
        return self.link.deadline if self.connected else self._give_up_at

    def start(self, now: float) -> Actions:
        """The socket is open; the coordinator speaks first (P6)."""
        self._give_up_at = now + HANDSHAKE_TIMEOUT_S
        return []

    def authenticate(self, choice: Authentication | None, now: float) -> Actions:
        """The answer to ``Choose``."""
        if self.state is not ConnectionState.AUTHENTICATING:
            return []
        return self._ended_by(self._join.authenticate(choice))

    def receive(self, frame: bytes, now: float) -> Actions:
        match self.state:
            case ConnectionState.CONNECTED:
                return self._receive_sealed(frame, now)
            case ConnectionState.HANDSHAKING:
                actions = self._ended_by(self._join.hello(frame))
                if self._join.sealer is not None:
                    self.state = ConnectionState.AUTHENTICATING
                return actions
            case ConnectionState.AUTHENTICATING if self._join.asked:
                return self._receive_verdict(frame, now)
        return []

    def tick(self, now: float) -> Actions:
        if self.connected:
            return self._finish(self.link.tick(now))
        if self._give_up_at is not None and now >= self._give_up_at:
            return self._ended_by([Close(1000, "Handshake timeout")])
        return []

    def lost(self, reason: str, now: float) -> Actions:
        self.state = ConnectionState.DISCONNECTED
        self._give_up_at = None
        return []

    def advertise(self, offered: Advert, now: float) -> Actions:
        return self._finish(self.link.advertise(offered, now))

    def relay(self, plaintext: bytes) -> Actions:
        """Seal one finished message; too large a one would end the connection (1.3, P5)."""
        if not self.connected:
            return []
        if len(plaintext) > MAX_PLAINTEXT_BYTES:
            self.link.counters["oversized_frames"] += 1
            fields = {"bytes": len(plaintext), "limit": MAX_PLAINTEXT_BYTES}
            return [Note("error", "Message is too large for the link, dropped", fields)]
        return [Send(self._join.seal(plaintext))]

    def _receive_verdict(self, frame: bytes, now: float) -> Actions:
        actions = self._ended_by(self._join.response(frame))
        for action in actions:
            if isinstance(action, Joined):
                self.state = ConnectionState.CONNECTED
                self._give_up_at = None
                # Who speaks appendix D knows the forms of 0.9, whatever its version counts from.
                version = None if self._join.mutual else action.coordinator_version
                return actions + self._finish(self.link.joined(version, now))
        return actions

    def _receive_sealed(self, frame: bytes, now: float) -> Actions:
        self.link.heard(now)
        plain = self._join.sealer.open(frame) if self._join.sealer else None
        if plain is not None:
            self._undecryptable = 0
            return self._finish(self.link.receive(plain, now))
        self._undecryptable += 1
        self.link.counters["undecryptable_frames"] += 1
        if self._undecryptable < MAX_UNDECRYPTABLE:
            return [Note("warn", "Failed to decrypt message from peer")]
        return self._ended_by([Close(1000, "Too many undecryptable frames")])

    def _finish(self, actions: Actions) -> Actions:
        """Seal what the link wants sent."""
        finished: Actions = []
        for action in actions:
            if isinstance(action, PlainSend):
                finished += self.relay(encode(action.message))
            else:
                finished.append(action)
        return self._ended_by(finished)

    def _ended_by(self, actions: Actions) -> Actions:
        if any(isinstance(action, Close) for action in actions):
            self.state = ConnectionState.DISCONNECTED
            self._give_up_at = None
        return actions
