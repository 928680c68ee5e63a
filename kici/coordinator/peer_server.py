"""The shell around the acceptor machines: one greenlet reads each connection, one writes while
there is something to write, one ticks them all.

Per idle worker: a greenlet, a WebSocket, a session of a few hundred bytes and no timer.
"""

import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable
from time import monotonic, time
from typing import Any

import gevent
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from kici.contracts.wire import Wire
from kici.contracts.wire.peer import MAX_FRAME_BYTES
from kici.protocol.coordinator_actions import (
    AcceptorSettings,
    Decide,
    Failed,
    Heard,
    Joined,
    Left,
)
from kici.protocol.coordinator_auth import Door, Refused, Verdict, decide
from kici.protocol.coordinator_session import CoordinatorSession
from kici.protocol.machine import Action, Actions, Close, Note, Send
from kici.shell.websocket import Connection, Disconnected

_log = logging.getLogger("kici.coordinator")
#: What may wait for a slow worker before it is cut off: a few of the largest reroutes.
MAX_QUEUED_BYTES = 64 * 2**20
#: One close handshake; a dead peer must not hold its greenlet longer.
CLOSE_S = 5.0


def wall_ms() -> int:
    """Epoch milliseconds, for messages only."""
    return int(time() * 1000)


class PeerConnection:
    """Owns: one accepted connection, its machine and what waits to be written."""

    def __init__(
        self,
        socket: Connection,
        address: str,
        settings: AcceptorSettings,
        door: Door,
        hear: Callable[["PeerConnection", Action], None],
    ) -> None:
        self.address = address
        self.session = CoordinatorSession(
            settings, X25519PrivateKey.generate(), os.urandom, wall_ms
        )
        self._min_version = settings.min_protocol_version
        self._socket = socket
        self._door = door
        self._hear = hear
        self._outbox: deque[Send | Close] = deque()
        self._queued_bytes = 0
        self._writer: gevent.Greenlet | None = None

    @property
    def role(self) -> str:
        return self.session.role

    def serve(self) -> None:
        """Read until the connection is over."""
        self._perform(self.session.start(monotonic()))
        reason = ""
        try:
            while True:
                frame = self._socket.receive()
                self._perform(self.session.receive(frame, monotonic()))
        except Disconnected as over:
            reason = f"{over.code} {over.reason}".strip()
        finally:
            self._perform(self.session.lost(reason, monotonic()))
            if self._writer is not None:
                self._writer.join(CLOSE_S)

    def tick(self, now: float) -> None:
        deadline = self.session.deadline
        if deadline is not None and now >= deadline:
            self.session.life.bytes(self._socket.last_heard_at)
            self._perform(self.session.tick(now))

    def say(self, message: Wire) -> bool:
        """Queue a message; False when the connection is over."""
        actions = self.session.say(message)
        self._perform(actions)
        return bool(actions)

    def announce(self, *, draining: bool) -> None:
        self.session.draining = draining
        self._perform(self.session.beat(monotonic()))

    def end(self, code: int, reason: str, *, leaving: bool = False) -> None:
        """Close from our side, after what is queued."""
        self._perform(self.session.end(code, reason, leaving=leaving))

    def _perform(self, actions: Actions) -> None:
        for action in actions:
            if isinstance(action, Send | Close):
                self._queue(action)
            elif isinstance(action, Decide):
                # Not here: a frame that is already in our hands must be seen first (C17).
                gevent.spawn(self._decide, action)
            elif isinstance(action, Note):
                self._note(action)
            elif isinstance(action, Failed | Heard | Joined | Left):
                if isinstance(action, Joined):
                    self._socket.allow(MAX_FRAME_BYTES)
                self._hear(self, action)

    def _decide(self, asked: Decide) -> None:
        try:
            verdict: Verdict = decide(
                asked.request, asked.nonce, asked.transcript, self._min_version, self._door
            )
        except Exception:  # noqa: BLE001 - said and answered; without a verdict it waits 15 s
            _log.exception("Authentication failed unexpectedly", extra={"address": self.address})
            # Unlike a database that is down (3.11) it was the request: so it counts.
            verdict = Refused(4001, "Auth error", answered=False)
        self._perform(self.session.decided(verdict, monotonic()))

    def _queue(self, action: Send | Close) -> None:
        if isinstance(action, Send):
            self._queued_bytes += len(action.text)
            if self._queued_bytes > MAX_QUEUED_BYTES:
                _log.warning("Peer takes no data", extra={"peerId": self.session.instance_id})
                self._socket.abort()
                return
        self._outbox.append(action)
        if self._writer is None:
            self._writer = gevent.spawn(self._write)

    def _write(self) -> None:
        try:
            while self._outbox:
                action = self._outbox.popleft()
                if isinstance(action, Close):
                    self._socket.close(action.code, action.reason, CLOSE_S)
                    continue
                self._queued_bytes -= len(action.text)
                with contextlib.suppress(Disconnected):  # the reader hears of it, too
                    self._socket.send_text(action.text)
        finally:
            self._writer = None

    def _note(self, note: Note) -> None:
        fields: dict[str, Any] = {"peerId": self.session.instance_id, "address": self.address}
        level = logging.getLevelName(note.level.upper())
        _log.log(level, note.message, extra={**fields, **note.fields})
