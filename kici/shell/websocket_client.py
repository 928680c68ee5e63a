"""An outbound WebSocket on gevent sockets (peer spec 1.1-1.6, agent spec 1.1).

The protocol is websockets' Sans-I/O core; this file moves bytes. No extension and no
subprotocol is offered (peer spec 1.4). Received text is returned as the bytes of its UTF-8
form: the JSON and base64 decoders behind it check them, and a copy is saved.
"""

import contextlib
import logging
import ssl
from collections import deque
from collections.abc import Callable

import gevent
from gevent.lock import BoundedSemaphore
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidURI
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.uri import WebSocketURI, parse_uri

from kici.shell.dial import ConnectFailed, close_quietly, dial, read_upgrade
from kici.shell.websocket import Disconnected

__all__ = ["ClientConnection", "ConnectFailed", "Disconnected", "connect"]

#: Read this much at once.
_RECV_BYTES = 64 * 1024
#: A stalled peer gets this long to take one ``_SLICE_BYTES`` of a frame.
WRITE_TIMEOUT_S = 30.0
_SLICE_BYTES = 256 * 1024

#: The core formats every frame for a logger that is on; ours never is.
_silent = logging.getLogger("kici.websocket.silent")
_silent.propagate = False
_silent.setLevel(logging.CRITICAL + 1)


def connect(url: str, *, timeout_s: float, max_size: int) -> "ClientConnection":
    """Dial ``url`` (ws:// or wss://) and upgrade, all within ``timeout_s``.

    ``max_size`` bounds a received message, in bytes. Raises ``ConnectFailed``.
    """
    try:
        target = parse_uri(url)
    except InvalidURI as error:
        raise ConnectFailed(f"not a WebSocket URL: {error.msg}", None) from None
    deadline = gevent.Timeout.start_new(timeout_s)
    transport = None
    try:
        transport = dial(target.host, target.port, secure=target.secure)
        connection = ClientConnection(transport, target, max_size)
        connection.upgrade()
        return connection
    except gevent.Timeout as timeout:
        close_quietly(transport)
        if timeout is not deadline:
            raise
        raise ConnectFailed(f"timed out after {timeout_s:g} s", None) from None
    except BaseException:
        close_quietly(transport)
        raise
    finally:
        deadline.close()


class ClientConnection:
    """Owns: one socket and its WebSocket state.

    Any greenlet may send; one at a time reads, and a second reader waits for the first.
    """

    def __init__(self, transport, target: WebSocketURI, max_size: int) -> None:
        self._socket = transport
        self._protocol = ClientProtocol(target, max_size=max_size, logger=_silent)
        self._messages: deque[bytes] = deque()
        self._fragments: list[bytes] = []
        self._write_lock = BoundedSemaphore()
        self._read_lock = BoundedSemaphore()
        self._over: Disconnected | None = None
        #: Given PING or PONG by the reading greenlet; must not block or raise.
        self.on_control: Callable[[Opcode], None] | None = None

    @property
    def is_open(self) -> bool:
        return self._over is None

    def upgrade(self) -> None:
        """The opening handshake; called once, by ``connect``."""
        self._protocol.send_request(self._protocol.connect())
        try:
            self._flush()
            self._protocol.receive_data(read_upgrade(self._socket))
        except (OSError, Disconnected) as error:
            raise ConnectFailed(f"connection lost during the upgrade: {error}", None) from error
        if self._protocol.handshake_exc is not None:
            raise ConnectFailed(f"bad upgrade answer: {self._protocol.handshake_exc}", 101)
        self._take_events()
        # A server that refuses us may send its close frame along with the 101.
        with contextlib.suppress(Disconnected):
            self._flush()
        self._notice_end(at_eof=False)

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

    def receive(self, timeout_s: float | None = None) -> bytes:
        """The next message. Raises ``Disconnected``, or ``TimeoutError`` (nothing is lost)."""
        if self._messages:
            return self._messages.popleft()
        timeout = gevent.Timeout.start_new(timeout_s)
        try:
            with self._read_lock:
                while not self._messages:
                    if self._over is not None:
                        raise self._over
                    self._pump()
                return self._messages.popleft()
        except gevent.Timeout as fired:
            if fired is not timeout:
                raise
            raise TimeoutError(f"no message within {timeout_s:g} s") from None
        finally:
            timeout.close()

    def close(self, code: int = 1000, reason: str = "", timeout_s: float = 5.0) -> None:
        """Close with the handshake; whatever has not happened after ``timeout_s`` is cut."""
        with gevent.Timeout(timeout_s, False):
            with contextlib.suppress(Disconnected), self._write_lock:
                self._require_open()
                self._protocol.send_close(code, reason[:120])
                self._write_out()
            while self._over is None:
                with self._read_lock:
                    if self._over is None:
                        self._messages.clear()
                        self._pump()
        self.abort()

    def abort(self) -> None:
        """Close the socket now, without a close frame. Harmless when repeated."""
        self._notice_end(at_eof=False)  # a reason that was read counts more than ours
        self._end(1006, "aborted")

    def _require_open(self) -> None:
        if self._over is not None:
            raise self._over
        if self._protocol.state is not State.OPEN:
            # A close frame is read or written: nothing may follow ours.
            close = self._protocol.close_rcvd or self._protocol.close_sent
            raise Disconnected(close.code, close.reason) if close else Disconnected(1006, "")

    def _pump(self) -> None:
        """One read from the socket, and everything that follows from it."""
        try:
            data = self._socket.recv(_RECV_BYTES)
        except (OSError, ValueError) as error:
            self._end(1006, str(error))
            return
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        self._take_events()
        with contextlib.suppress(Disconnected):
            self._flush()
        self._notice_end(at_eof=not data)

    def _take_events(self) -> None:
        for frame in self._protocol.events_received():
            opcode = getattr(frame, "opcode", None)
            if self.on_control is not None and opcode in (Opcode.PING, Opcode.PONG):
                self.on_control(opcode)
            if opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                continue
            if frame.fin and not self._fragments:
                self._messages.append(bytes(frame.data))
                continue
            self._fragments.append(frame.data)
            if frame.fin:
                self._messages.append(b"".join(self._fragments))
                self._fragments = []

    def _notice_end(self, *, at_eof: bool) -> None:
        received, sent = self._protocol.close_rcvd, self._protocol.close_sent
        if received is not None:
            self._end(received.code, received.reason)
        elif self._protocol.parser_exc is not None and sent is not None:
            self._end(sent.code, sent.reason)
        elif at_eof:
            self._end(1006, "connection closed without a close frame")

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
