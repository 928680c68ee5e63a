"""What the client end of a WebSocket writes: frames of websockets' core, each with a deadline."""

import contextlib
import logging
import ssl

import gevent
from gevent.lock import BoundedSemaphore
from websockets.client import ClientProtocol
from websockets.protocol import State
from websockets.uri import WebSocketURI

from kici.shell.websocket import Disconnected

#: A stalled peer gets this long to take one ``_SLICE_BYTES`` of a frame.
WRITE_TIMEOUT_S = 30.0
_SLICE_BYTES = 256 * 1024

#: The core formats every frame for a logger that is on; ours never is.
_silent = logging.getLogger("kici.websocket.silent")
_silent.propagate = False
_silent.setLevel(logging.CRITICAL + 1)


class ClientSending:
    """Owns: the socket, the protocol's core, who may write, and how the connection ended."""

    def __init__(self, transport, target: WebSocketURI, max_size: int) -> None:
        self._socket = transport
        self._protocol = ClientProtocol(target, max_size=max_size, logger=_silent)
        self._write_lock = BoundedSemaphore()
        self._over: Disconnected | None = None

    @property
    def is_open(self) -> bool:
        return self._over is None

    def send_text(self, text: str | bytes) -> None:
        """Write one text frame; ``bytes`` must be valid UTF-8. Raises ``Disconnected``.

        Returns when the kernel has the frame: that is the back-pressure.
        """
        data = text.encode("utf-8") if isinstance(text, str) else text
        with self._write_lock:
            self._require_open()
            self._protocol.send_text(data)
            self._write_out()

    def ping(self) -> None:
        """Send a ping; the pong is reported to ``on_control`` only."""
        with self._write_lock:
            self._require_open()
            self._protocol.send_ping(b"")
            self._write_out()

    def _require_open(self) -> None:
        if self._over is not None:
            raise self._over
        if self._protocol.state is not State.OPEN:
            # A close frame is read or written: nothing may follow ours.
            close = self._protocol.close_rcvd or self._protocol.close_sent
            raise Disconnected(close.code, close.reason) if close else Disconnected(1006, "")

    def _flush(self) -> None:
        """Write control frames; when a writer is at work, it takes them along."""
        if self._write_lock.acquire(blocking=False):
            try:
                self._write_out()
            finally:
                self._write_lock.release()

    def _write_out(self) -> None:
        """Everything the core wants written; the caller holds the write lock."""
        while chunks := self._protocol.data_to_send():
            for chunk in chunks:
                try:
                    self._write(chunk)
                except (OSError, ValueError) as error:
                    self._end(1006, str(error))
                    raise self._over or Disconnected(1006, str(error)) from None

    def _write(self, chunk: bytes) -> None:
        if not chunk:  # the core's sign for: no more from us
            return
        view = memoryview(chunk)
        for start in range(0, len(chunk), _SLICE_BYTES):
            timeout = gevent.Timeout.start_new(WRITE_TIMEOUT_S)
            try:
                self._socket.sendall(view[start : start + _SLICE_BYTES])
            except gevent.Timeout as fired:
                # Half a frame is on the wire: nothing can follow it.
                self._end(1006, "write timed out")
                if fired is not timeout:
                    raise
                raise OSError("write timed out") from None
            except BaseException:
                self._end(1006, "write failed")
                raise
            finally:
                timeout.close()

    def _end(self, code: int, reason: str) -> None:
        if self._over is None:
            self._over = Disconnected(code, reason)
            # Wakes a greenlet that is blocked in recv or send on this socket.
            with contextlib.suppress(OSError, ssl.SSLError):
                self._socket.close()
