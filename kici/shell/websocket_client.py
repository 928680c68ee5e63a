"""An outbound WebSocket on gevent sockets (peer spec 1.1-1.6, agent spec 1.1).

The protocol is websockets' Sans-I/O core; this file moves bytes. No extension and no
subprotocol is offered (peer spec 1.4). Received text is returned as the bytes of its UTF-8
form: the JSON and base64 decoders behind it check them, and a copy is saved.
"""

import contextlib
from collections import deque
from collections.abc import Callable

import gevent
from gevent.lock import BoundedSemaphore
from websockets.exceptions import InvalidURI
from websockets.frames import Opcode
from websockets.uri import WebSocketURI, parse_uri

from kici.shell.client_sending import ClientSending
from kici.shell.dial import ConnectFailed, close_quietly, dial, read_upgrade
from kici.shell.websocket import Disconnected

__all__ = ["ClientConnection", "ConnectFailed", "Disconnected", "connect"]

#: Read this much at once.
_RECV_BYTES = 64 * 1024
#: A server that sends without a pause would never let another greenlet run.
_YIELD_EVERY = 64


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


class ClientConnection(ClientSending):
    """Owns: one socket and its WebSocket state.

    Any greenlet may send; one at a time reads, and a second reader waits for the first.
    """

    def __init__(self, transport, target: WebSocketURI, max_size: int) -> None:
        super().__init__(transport, target, max_size)
        self._messages: deque[bytes] = deque()
        self._fragments: list[bytes] = []
        self._read_lock = BoundedSemaphore()
        self._n_calls = 0
        #: Given PING or PONG by the reading greenlet; must not block or raise.
        self.on_control: Callable[[Opcode], None] | None = None

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

    def receive(self, timeout_s: float | None = None) -> bytes:
        """The next message. Raises ``Disconnected``, or ``TimeoutError`` (nothing is lost)."""
        self._give_way()
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

    def _pump(self) -> None:
        """One read from the socket, and everything that follows from it."""
        self._give_way()
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

    def _give_way(self) -> None:
        self._n_calls += 1
        if self._n_calls % _YIELD_EVERY == 0:
            gevent.sleep(0)

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
