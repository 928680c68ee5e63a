"""A WebSocket client that can break every rule: frames are built by hand."""

import struct

import gevent
import gevent.socket

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def upgrade_request(path="/ws", key=KEY, version="13", extra=()):
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: test",
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        f"Sec-WebSocket-Version: {version}",
    ]
    if key is not None:
        lines.append(f"Sec-WebSocket-Key: {key}")
    return ("\r\n".join([*lines, *extra]) + "\r\n\r\n").encode()


def frame(opcode, payload=b"", *, final=True, masked=True, rsv=0, mask=None):
    """One client frame."""
    first = (0x80 if final else 0) | rsv << 4 | opcode
    bit = 0x80 if masked else 0
    if len(payload) < 126:
        head = struct.pack("!BB", first, bit | len(payload))
    elif len(payload) < 1 << 16:
        head = struct.pack("!BBH", first, bit | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, bit | 127, len(payload))
    if not masked:
        return head + payload
    # Not random: frames are parameters of tests, and those need the same names in every worker.
    key = mask or b"\x12\x34\x56\x78"
    body = bytes(b ^ key[i % 4] for i, b in enumerate(payload)) if any(key) else payload
    return head + key + body


def text(content, **kwargs):
    return frame(0x1, content.encode() if isinstance(content, str) else content, **kwargs)


def close(code=None, reason=b""):
    return frame(0x8, b"" if code is None else struct.pack("!H", code) + reason)


class RawClient:
    """Speaks on a connected gevent socket; each wait ends after ``timeout_s``."""

    def __init__(self, sock, timeout_s=5.0):
        self.sock = sock
        self.sock.settimeout(timeout_s)
        self.buffer = b""

    @classmethod
    def dial(cls, address, **kwargs):
        return cls(gevent.socket.create_connection(address), **kwargs)

    def send(self, data):
        self.sock.sendall(data)

    def head(self):
        """The HTTP answer's head, as text."""
        while b"\r\n\r\n" not in self.buffer:
            data = self.sock.recv(65536)
            if not data:
                break
            self.buffer += data
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return head.decode("latin-1")

    def upgrade(self, path="/ws", **kwargs):
        self.send(upgrade_request(path, **kwargs))
        head = self.head()
        assert head.startswith("HTTP/1.1 101 "), head
        return head

    def _exactly(self, size):
        while len(self.buffer) < size:
            data = self.sock.recv(1 << 20)
            if not data:
                raise EOFError
            self.buffer += data
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def frame(self):
        """``(opcode, payload)`` of the next server frame; EOFError at the end."""
        first, second = self._exactly(2)
        assert first & 0x80, "server frames are never fragmented"
        assert not second & 0x80, "server frames are never masked"
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self._exactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._exactly(8))
        return first & 0x0F, self._exactly(size)

    def closing(self):
        """``(code, reason)`` of the close frame that comes next, pings apart; then EOF."""
        while True:
            opcode, payload = self.frame()
            if opcode == 0x8:
                break
            assert opcode in (0x9, 0xA), (opcode, payload[:80])
        code = struct.unpack("!H", payload[:2])[0] if payload else None
        return code, payload[2:].decode()

    def at_end(self):
        """Whether the server closed the socket and said nothing more."""
        try:
            self._exactly(1)
        except (EOFError, ConnectionError):
            return True
        return False

    def shut(self):
        self.sock.close()


def connected_pair():
    """Two connected TCP sockets on loopback, gevent ones."""
    listener = gevent.socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    left = gevent.socket.create_connection(listener.getsockname())
    right, _ = listener.accept()
    listener.close()
    return left, right
