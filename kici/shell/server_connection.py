"""The server end of an open WebSocket: what it receives, and its end. Made by
``websocket_server.accept`` and ``accept_passed``.
"""

import contextlib
from collections.abc import Iterator
from time import monotonic
from typing import Any

import gevent
import gevent.socket
from gevent.event import Event

from kici.errors import RemoteError
from kici.shell import frames
from kici.shell.server_sending import ServerSending
from kici.shell.websocket import ABNORMAL, Disconnected

#: How long a socket stays half open so that our close frame is not overtaken by a reset.
LINGER_S = 1.0
_RECV_BYTES = 64 * 1024
_MAX_RECV_BYTES = 1 << 20


class ServerConnection(ServerSending):
    """Owns: what one accepted socket receives. Implements ``websocket.Connection``."""

    def __init__(self, sock: Any, *, early: bytes, remote: str, max_size: int) -> None:
        super().__init__(sock)
        self.remote = remote
        self.last_heard_at = monotonic()
        self._reader = frames.FrameReader(max_size)
        self._reader.feed(early)
        self._may_read = Event()
        self._may_read.set()
        # Silence while reading: what passed before ``_reading_since``, see silent_s.
        self._silence_s = 0.0
        self._reading_since: float | None = None

    def allow(self, max_size: int) -> None:
        """From now on messages may be so large, in bytes."""
        self._reader.max_size = max_size

    # --- receiving -------------------------------------------------------------------

    def receive(self, timeout_s: float | None = None) -> str | bytes:
        timeout = gevent.Timeout(timeout_s)
        try:
            with timeout, self._reading():
                message = self._receive()
        except gevent.Timeout as caught:
            if caught is not timeout:
                raise
            raise TimeoutError(f"no message within {timeout_s} s") from None
        return message

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        self._reading_since = monotonic()
        try:
            yield
        finally:
            self._stop_listening()

    def _stop_listening(self) -> None:
        self._silence_s = self.silent_s()
        self._reading_since = None

    def _receive(self) -> str | bytes:
        while True:
            if self._end is not None:
                raise Disconnected(*self._end)
            self._wait_for_resume()
            event = self._next_event()
            if isinstance(event, frames.Message):
                # After our close frame messages are read only to find its answer.
                if self._close_sent is None:
                    return event.content
            elif isinstance(event, frames.Closing):
                self._answer_close(event)
            elif isinstance(event, frames.Ping):
                self._pong = event.payload
                if not self._write_lock.locked() and self._close_sent is None:
                    self._answer_ping()

    def _wait_for_resume(self) -> None:
        if not self._may_read.is_set() and self._close_sent is None:
            self._stop_listening()
            self._may_read.wait()
            self._reading_since = monotonic()

    def _next_event(self) -> frames.Event:
        try:
            while (event := self._reader.next()) is None:
                self._fill()
        except RemoteError as error:
            self._fail(error.code, error.reason)
            raise Disconnected(*self._known_end()) from None
        return event

    def _fill(self) -> None:
        wanted = min(max(self._reader.wanted(), _RECV_BYTES), _MAX_RECV_BYTES)
        try:
            data = self._socket.recv(wanted)
        except OSError as error:
            self._finish(ABNORMAL, f"read failed: {error.strerror or error}")
            raise Disconnected(*self._known_end()) from None
        if not data:
            self._finish(ABNORMAL, "the other end closed the socket without a close frame")
            raise Disconnected(*self._known_end())
        self.last_heard_at = self._reading_since = monotonic()
        self._silence_s = 0.0
        self._reader.feed(data)
        self._give_way()

    def pause(self) -> None:
        self._may_read.clear()

    def resume(self) -> None:
        self._may_read.set()

    def silent_s(self) -> float:
        """Seconds without a byte while we were reading: silence that is not our own doing
        (a paused or busy reader hears nothing)."""
        if self._reading_since is None:
            return self._silence_s
        return self._silence_s + monotonic() - self._reading_since

    def _finish(self, code: int, reason: str) -> None:
        super()._finish(code, reason)
        self._may_read.set()

    # --- ending ----------------------------------------------------------------------

    def close(self, code: int = 1000, reason: str = "", timeout_s: float = 5.0) -> None:
        if self._end is not None or self._close_sent is not None:
            self._ended.wait(timeout_s)
            return
        self._say_close(code, reason)
        self._may_read.set()
        if self._reading_since is not None:
            # Another greenlet reads: it will see the answer.
            self._ended.wait(timeout_s)
        else:
            with contextlib.suppress(Disconnected, TimeoutError):
                self.receive(timeout_s)
        self._finish(code, reason)

    def abort(self) -> None:
        self._finish(ABNORMAL, "aborted")

    def wait_ended(self, timeout_s: float) -> bool:
        """Whether the connection is over, after waiting for that at most ``timeout_s``."""
        return bool(self._ended.wait(timeout_s))

    def _answer_close(self, closing: frames.Closing) -> None:
        """Echo the code that was received; the first close frame of the two is the reason."""
        if self._close_sent is None:
            self._say_close(closing.code, "")
            self._finish(closing.code, closing.reason)
        else:
            self._finish(*self._close_sent)

    def _fail(self, code: int, reason: str) -> None:
        """Close because the other end broke the protocol; what it still sends is thrown
        away for a moment, else the kernel's reset would overtake our close frame."""
        if self._close_sent is None:
            self._say_close(code, reason)
        with contextlib.suppress(OSError), gevent.Timeout(LINGER_S, False):
            self._socket.shutdown(gevent.socket.SHUT_WR)
            while self._socket.recv(_RECV_BYTES):
                gevent.sleep(0)
        self._finish(code, reason)
