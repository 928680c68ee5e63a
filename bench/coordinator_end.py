"""The coordinator of a bench: the acceptor's pure machine on ``sockets``."""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from bench.sockets import Listener, Loop, WebSocketEnd
from kici.contracts.wire import Wire
from kici.protocol.coordinator_actions import AcceptorSettings, Decide, Heard, Joined
from kici.protocol.coordinator_auth import Credential, decide
from kici.protocol.coordinator_auth import Joined as JoinedByToken
from kici.protocol.coordinator_session import CoordinatorSession
from kici.protocol.machine import Actions, Close, Send

SECRET = b"\x11" * 32
#: A join token that ``Door`` takes; the routing part is not looked at.
TOKEN = "kici_join_v1.eyJ2IjoxfQ." + SECRET.hex()


class Door:
    """Lets everybody in who has ``TOKEN``, as often as they like."""

    def __init__(self) -> None:
        self._credentials: dict[str, Credential] = {}

    def credential(self, instance_id: str) -> Credential | None:
        return self._credentials.get(instance_id)

    def token_hashes(self, routing: str) -> Sequence[bytes]:
        return [hashlib.sha256(SECRET).digest()]

    def join(self, token_hash: bytes, instance_id: str, role: str | None) -> JoinedByToken:
        text = os.urandom(32).hex()
        hashed = hashlib.sha256(text.encode()).digest()
        self._credentials[instance_id] = Credential(hashed, "worker")
        return JoinedByToken("worker", text)

    def welcomed(self, instance_id: str) -> None:
        return


class WorkerLink:
    """One connected worker, seen from the coordinator."""

    def __init__(self, end: WebSocketEnd, door: Door, hear: Callable[[Any], None]) -> None:
        settings = AcceptorSettings(instance_id="bench", software_version="0.15.0")
        self.session = CoordinatorSession(
            settings, X25519PrivateKey.generate(), os.urandom, lambda: int(time.time() * 1000)
        )
        self.end = end
        self.joined = False
        self._door = door
        self._hear = hear
        end.opened = lambda: self._perform(self.session.start(time.monotonic()))
        end.heard = lambda data: self._perform(self.session.receive(data, time.monotonic()))

    def say(self, message: Wire) -> None:
        self._perform(self.session.say(message))

    def beat(self) -> None:
        """Our heartbeat; a bench longer than 90 s must call it."""
        self._perform(self.session.beat(time.monotonic()))

    def _perform(self, actions: Actions) -> None:
        for action in actions:
            if isinstance(action, Heard):
                self._hear(action.message)
            elif isinstance(action, Send):
                self.end.send(action.text.encode())
            elif isinstance(action, Decide):
                verdict = decide(action.request, action.nonce, action.transcript, 1, self._door)
                self._perform(self.session.decided(verdict, time.monotonic()))
            elif isinstance(action, Joined):
                self.joined = True
            elif isinstance(action, Close):
                self.end.close()


class Coordinator:
    """A listening port; ``link`` is the newest worker, ``hear`` gets every message."""

    def __init__(self, loop: Loop) -> None:
        self._door = Door()
        self._loop = loop
        self.hear: Callable[[Any], None] = lambda message: None
        self.link: WorkerLink | None = None
        self.port = Listener(loop, self._accept).port

    @property
    def joined(self) -> bool:
        return self.link is not None and self.link.joined and not self.link.end.over

    def wait_joined(self, timeout_s: float = 30.0) -> WorkerLink:
        self._loop.run(lambda: self.joined, "worker joins", timeout_s)
        assert self.link is not None
        return self.link

    def _accept(self, end: WebSocketEnd) -> None:
        self.link = WorkerLink(end, self._door, lambda message: self.hear(message))
