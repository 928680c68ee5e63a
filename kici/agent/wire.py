"""The agent's socket: dialling, the paced writer, closing. Knows no message."""

import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import gevent
from gevent.event import Event
from websockets.frames import Opcode

from kici.contracts.wire.agent import MAX_FRAME_BYTES
from kici.shell.websocket_client import ClientConnection, ConnectFailed, Disconnected, connect

CONNECT_TIMEOUT_S = 15.0
#: Frames a second (A92): a burst of 50 and 150 a second never exceed 200 in any second.
_FRAME_RATE, _FRAME_BURST = 150.0, 50.0
#: Rounding may leave a hair of a token missing: a pause too short for the clock to move.
_SHORTEST_PAUSE_S = 0.001
#: Text waiting for the socket beyond which log readers wait.
HIGH_WATER_BYTES = 1024 * 1024
#: Close frame of the last connection (scaler spec 2.9 gives it 1 s).
CLOSE_S = 1.0
#: The writer looks at its connection at least this often.
_IDLE_WAIT_S = 5.0


class Hearer(Protocol):
    """Who is told what comes; called from the reader's greenlet."""

    def opened(self) -> None: ...
    def received(self, message: str | bytes) -> None: ...
    def ponged(self) -> None: ...
    def heard(self) -> None: ...
    def lost(self, reason: str, code: int) -> None: ...


class Wire:
    """Owns: one connection at a time, its writer and what waits to be written."""

    def __init__(
        self,
        url: str,
        hearer: Hearer,
        *,
        on_crash: Callable[[gevent.Greenlet], None],
        connect: Callable[..., ClientConnection] = connect,
    ) -> None:
        """``connect`` is another one where nothing real is dialled (tests/chaos/memory)."""
        self._url, self._hearer, self._on_crash = url, hearer, on_crash
        self._dial = connect
        self._connection: ClientConnection | None = None
        #: None is a ping.
        self._outgoing: deque[str | None] = deque()
        self._n_bytes = 0
        self._writable, self._sendable = Event(), Event()
        self._writable.set()
        self._closing: gevent.Greenlet | None = None
        self._ended = False

    @property
    def congested(self) -> bool:
        return self._n_bytes > HIGH_WATER_BYTES

    def wait_writable(self, timeout_s: float) -> None:
        """Until something was written, or the time is over."""
        self._writable.clear()
        self._writable.wait(timeout_s)

    def dial(self) -> None:
        """In a greenlet of its own; the hearer is told how it went."""
        gevent.spawn(self._connect).link_exception(self._on_crash)

    def queue(self, text: str | None) -> None:
        """To be written in order; None is a ping. Without a connection nothing happens."""
        if self._connection is None:
            return
        self._outgoing.append(text)
        self._n_bytes += len(text or "")
        self._sendable.set()

    def close(self, code: int, reason: str) -> None:
        """Write what waits, then the close frame; in a greenlet of its own."""
        connection = self._connection
        if connection is None:
            return
        rest = [text for text in self._outgoing if text is not None]
        self._forget()

        def close() -> None:
            try:
                for text in rest:
                    connection.send_text(text)
                connection.close(code, reason, timeout_s=CLOSE_S)
            except Disconnected:
                connection.abort()

        self._closing = gevent.spawn(close)

    def end(self) -> None:
        """No connection after this one; waits for a close that is under way."""
        self._ended = True
        if self._closing is not None:
            self._closing.join(CLOSE_S)

    def _connect(self) -> None:
        try:
            connection = self._dial(
                self._url, timeout_s=CONNECT_TIMEOUT_S, max_size=MAX_FRAME_BYTES
            )
        except ConnectFailed as error:
            self._hearer.lost(str(error), 1006)
            return
        if self._ended:
            connection.abort()
            return
        self._connection = connection
        self._outgoing.clear()
        self._n_bytes = 0
        connection.on_control = lambda opcode: self._control(connection, opcode)
        self._hearer.opened()
        gevent.spawn(self._write, connection).link_exception(self._on_crash)
        try:
            while True:
                message = connection.receive()
                if connection is not self._connection:
                    break
                self._hearer.received(message)
        except Disconnected as error:
            if connection is self._connection:
                self._forget()
                self._hearer.lost(error.reason, error.code)

    def _control(self, connection: ClientConnection, opcode: Opcode) -> None:
        if connection is not self._connection:
            return
        if opcode is Opcode.PONG:
            self._hearer.ponged()
            self._writable.set()
        else:
            self._hearer.heard()

    def _write(self, connection: ClientConnection) -> None:
        tokens, at = _FRAME_BURST, time.monotonic()
        try:
            while connection is self._connection:
                if not self._outgoing:
                    self._sendable.clear()
                    self._sendable.wait(_IDLE_WAIT_S)
                    continue
                now = time.monotonic()
                tokens, at = min(tokens + (now - at) * _FRAME_RATE, _FRAME_BURST), now
                if tokens < 1:
                    gevent.sleep(max((1 - tokens) / _FRAME_RATE, _SHORTEST_PAUSE_S))
                    continue
                tokens -= 1
                self._write_one(connection)
        except Disconnected:
            # Also when the worker's close frame is read and ours is under way: the
            # reader reports the end.
            connection.abort()

    def _write_one(self, connection: ClientConnection) -> None:
        text = self._outgoing.popleft()
        if text is None:
            connection.ping()
            return
        self._n_bytes -= len(text)
        connection.send_text(text)
        if not self.congested:
            self._writable.set()

    def _forget(self) -> None:
        self._connection = None
        self._outgoing.clear()
        self._n_bytes = 0
        self._sendable.set()
        self._writable.set()
