"""WebSocket ends on raw sockets and one selector: the load must not be the bottleneck.

No greenlets, no checks, no limits: both ends of a bench are ours. Clients mask with zeros,
which is legal and leaves the payload as it is.
"""

import base64
import hashlib
import selectors
import socket
import struct
import time
from collections.abc import Callable

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_RECV_BYTES = 256 * 1024
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10
_NO_MASK = b"\0\0\0\0"


class Loop:
    """Owns: the selector, and what wants to be called after each round."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def register(self, sock: socket.socket, handle: Callable[[int], None]) -> None:
        self._selector.register(sock, selectors.EVENT_READ, handle)

    def want_write(self, sock: socket.socket, wanted: bool, handle: Callable[[int], None]) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wanted else 0)
        self._selector.modify(sock, events, handle)

    def forget(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)
        sock.close()

    def run(self, until: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
        """Turn until the condition holds; TimeoutError naming ``what``."""
        deadline = time.monotonic() + timeout_s
        while not until():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"not within {timeout_s} s: {what}")
            self.turn(min(left, 0.05))

    def turn(self, timeout_s: float) -> None:
        for key, events in self._selector.select(timeout_s):
            key.data(events)

    def rest(self, seconds: float) -> None:
        """Turn for that long."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.turn(left)

    def close(self) -> None:
        for key in list(self._selector.get_map().values()):
            self.forget(key.fileobj)
        self._selector.close()


def text_frame(payload: bytes, *, masked: bool, opcode: int = _TEXT) -> bytes:
    """One final frame."""
    bit, size = (0x80 if masked else 0), len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, bit | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, bit | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, bit | 127, size)
    return head + (_NO_MASK if masked else b"") + payload


class WebSocketEnd:
    """Owns: one socket. ``opened()``, ``heard(payload)`` and ``ended()`` are called back."""

    def __init__(self, loop: Loop, sock: socket.socket, *, client: bool, path: str = "/ws") -> None:
        self._loop = loop
        self._socket = sock
        self._client = client
        self._in = bytearray()
        self._out = bytearray()
        self._open = False
        self.over = False
        self.opened: Callable[[], None] = lambda: None
        self.heard: Callable[[bytes], None] = lambda payload: None
        self.ended: Callable[[], None] = lambda: None
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop.register(sock, self._handle)
        if client:
            self._write(
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Key: {base64.b64encode(b'0' * 16).decode()}\r\n\r\n".encode()
            )

    @property
    def unsent(self) -> int:
        return len(self._out)

    def send(self, payload: bytes) -> None:
        self._write(text_frame(payload, masked=self._client))

    def send_raw(self, frames: bytes) -> None:
        """Frames made by ``text_frame`` before the measurement began."""
        self._write(frames)

    def close(self) -> None:
        if not self.over:
            self.over = True
            self._loop.forget(self._socket)
            self.ended()

    def _write(self, data: bytes) -> None:
        if self.over:
            return
        if not self._out:
            try:
                sent = self._socket.send(data)
            except (BlockingIOError, OSError):
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
            self._loop.want_write(self._socket, True, self._handle)
        self._out += data

    def _handle(self, events: int) -> None:
        if events & selectors.EVENT_WRITE and not self.over:
            self._flush()
        if events & selectors.EVENT_READ and not self.over:
            self._read()

    def _flush(self) -> None:
        try:
            with memoryview(self._out) as view:
                sent = self._socket.send(view[: 1 << 20])
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        del self._out[:sent]
        if not self._out:
            self._loop.want_write(self._socket, False, self._handle)

    def _read(self) -> None:
        try:
            data = self._socket.recv(_RECV_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._in += data
        if not self._open and not self._opening():
            return
        while not self.over and self._next():
            pass

    def _opening(self) -> bool:
        end = self._in.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._in[:end])
        del self._in[: end + 4]
        if not self._client:
            rows = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
            key = {name.lower(): value for name, value in rows.items()}[b"sec-websocket-key"]
            accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
            self._write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
        elif b" 101 " not in head[:20]:
            raise ConnectionError(f"upgrade refused: {head[:100]!r}")
        self._open = True
        self.opened()
        return True

    def _next(self) -> bool:
        data = self._in
        if len(data) < 2:
            return False
        size, at = data[1] & 0x7F, 2
        if size >= 126:
            at = 4 if size == 126 else 10
            if len(data) < at:
                return False
            size = int.from_bytes(data[2:at], "big")
        mask = b""
        if data[1] & 0x80:
            mask = bytes(data[at : at + 4])
            at += 4
        if len(data) < at + size:
            return False
        payload, opcode = bytes(data[at : at + size]), data[0] & 0x0F
        del data[: at + size]
        if mask and mask != _NO_MASK:
            key = (mask * (size // 4 + 1))[:size]
            number = int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")
            payload = number.to_bytes(size, "little")
        self._take(opcode, payload)
        return True

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode in (_TEXT, _BINARY):
            self.heard(payload)
        elif opcode == _PING:
            self._write(text_frame(payload, masked=self._client, opcode=_PONG))
        elif opcode == _CLOSE:
            self._write(text_frame(payload, masked=self._client, opcode=_CLOSE))
            self.close()


class Listener:
    """Accepts WebSockets; ``accepted(end)`` gets each one before its upgrade."""

    def __init__(self, loop: Loop, accepted: Callable[[WebSocketEnd], None]) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._socket.setblocking(False)
        self.port = self._socket.getsockname()[1]
        self._loop = loop
        self._accepted = accepted
        loop.register(self._socket, self._handle)

    def _handle(self, _events: int) -> None:
        sock, _address = self._socket.accept()
        self._accepted(WebSocketEnd(self._loop, sock, client=False))


def dial(loop: Loop, port: int, path: str) -> WebSocketEnd:
    return WebSocketEnd(loop, socket.create_connection(("127.0.0.1", port)), client=True, path=path)
