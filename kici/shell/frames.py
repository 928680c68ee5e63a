"""RFC 6455 frames as a server reads and writes them. No IO: bytes in, events out.

gevent-websocket unmasks and checks UTF-8 byte by byte in Python (5 s for 10 MB), twice, and
knows no maximum; this takes 0.1 s and refuses what is too large before it is read.
"""

import struct

import msgspec

from kici.errors import RemoteError
from kici.shell.websocket import NO_CODE, may_be_sent

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_DATA = frozenset({CONTINUATION, TEXT, BINARY})
_CONTROL = frozenset({CLOSE, PING, PONG})
#: Payload of a control frame (RFC 6455 section 5.5).
_MAX_CONTROL_BYTES = 125
#: Unmasked in pieces of this size: whole numbers of the mask, and quick on small caches.
_PIECE_BYTES = 1 << 16
#: A consumed head of the buffer is cut off when it is larger than this.
_COMPACT_BYTES = 1 << 16


class Message(msgspec.Struct, frozen=True):
    """A whole message: str from text frames, bytes from binary ones."""

    content: str | bytes


class Ping(msgspec.Struct, frozen=True):
    payload: bytes


class Pong(msgspec.Struct, frozen=True):
    payload: bytes


class Closing(msgspec.Struct, frozen=True):
    """The other end's close frame; ``NO_CODE`` when it was empty."""

    code: int
    reason: str


Event = Message | Ping | Pong | Closing


def unmask(payload: bytes, mask: bytes) -> bytes:
    """``payload`` XOR the repeated 4-byte ``mask``."""
    if len(payload) <= _PIECE_BYTES:
        return _unmask_piece(payload, mask)
    view = memoryview(payload)
    return b"".join(
        _unmask_piece(view[at : at + _PIECE_BYTES], mask)
        for at in range(0, len(payload), _PIECE_BYTES)
    )


def _unmask_piece(piece: bytes | memoryview, mask: bytes) -> bytes:
    size = len(piece)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(piece, "little") ^ key).to_bytes(size, "little")


def encode_frame(opcode: int, payload: bytes) -> bytes:
    """One final unmasked frame, as a server sends it."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 127, size)
    return head + payload


class _Head(msgspec.Struct, frozen=True):
    final: bool
    opcode: int
    mask: bytes
    begin: int  # of the payload, in the buffer
    size: int


class FrameReader:
    """Owns: bytes that arrived and are not yet a message; the parts of an unfinished one.

    ``next`` raises ``RemoteError`` (1002, 1007, 1009) for what breaks the protocol; the
    reader is useless afterwards.
    """

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        self._buffer = bytearray()
        self._at = 0
        self._opcode = 0
        self._parts: list[bytes] = []
        self._parts_size = 0

    def feed(self, data: bytes) -> None:
        """More bytes from the socket."""
        self._buffer += data

    def wanted(self) -> int:
        """Bytes that the frame at hand still lacks, at least 1: a hint for ``recv``."""
        head = self._head()
        if head is None:
            return 1
        return max(1, head.begin + head.size - len(self._buffer))

    def next(self) -> Event | None:
        """The next event, None when more bytes are needed."""
        while True:
            head = self._head()
            if head is None or len(self._buffer) < head.begin + head.size:
                return None
            end = head.begin + head.size
            payload = unmask(bytes(memoryview(self._buffer)[head.begin : end]), head.mask)
            self._consume(end)
            event = self._event(head, payload)
            if event is not None:
                return event

    def _consume(self, end: int) -> None:
        self._at = end
        if end == len(self._buffer) or end > _COMPACT_BYTES:
            del self._buffer[:end]
            self._at = 0

    def _head(self) -> _Head | None:
        at, have = self._at, len(self._buffer) - self._at
        if have < 2:
            return None
        first, second = self._buffer[at], self._buffer[at + 1]
        size, begin = second & 0x7F, at + 2
        self._check_first_bytes(first, second, size)
        if size >= 126:
            width = 2 if size == 126 else 8
            if have < 2 + width:
                return None
            size = int.from_bytes(self._buffer[begin : begin + width], "big")
            begin += width
        if first & 0x0F in _DATA and self._parts_size + size > self.max_size:
            raise RemoteError(1009, f"message above {self.max_size} bytes")
        if len(self._buffer) < begin + 4:
            return None
        mask = bytes(self._buffer[begin : begin + 4])
        return _Head(bool(first & 0x80), first & 0x0F, mask, begin + 4, size)

    def _check_first_bytes(self, first: int, second: int, size: int) -> None:
        opcode = first & 0x0F
        if first & 0x70:
            raise RemoteError(1002, "reserved bits are set")
        if opcode not in _DATA and opcode not in _CONTROL:
            raise RemoteError(1002, f"reserved opcode {opcode}")
        if not second & 0x80:
            raise RemoteError(1002, "client frame is not masked")
        if opcode in _CONTROL and (not first & 0x80 or size > _MAX_CONTROL_BYTES):
            raise RemoteError(1002, "control frame is fragmented or too long")
        if opcode == CONTINUATION and not self._opcode:
            raise RemoteError(1002, "continuation of nothing")
        if opcode in (TEXT, BINARY) and self._opcode:
            raise RemoteError(1002, "new message inside a fragmented one")

    def _event(self, head: _Head, payload: bytes) -> Event | None:
        if head.opcode == PING:
            return Ping(payload)
        if head.opcode == PONG:
            return Pong(payload)
        if head.opcode == CLOSE:
            return _closing(payload)
        opcode = self._opcode or head.opcode
        if not head.final:
            self._opcode = opcode
            self._parts.append(payload)
            self._parts_size += len(payload)
            return None
        if self._parts:
            payload = b"".join((*self._parts, payload))
        self._opcode, self._parts, self._parts_size = 0, [], 0
        return Message(_text(payload) if opcode == TEXT else payload)


def _text(payload: bytes) -> str:
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError:
        raise RemoteError(1007, "text is not UTF-8") from None


def _closing(payload: bytes) -> Closing:
    if not payload:
        return Closing(NO_CODE, "")
    if len(payload) < 2:
        raise RemoteError(1002, "close frame of one byte")
    code = int.from_bytes(payload[:2], "big")
    if not may_be_sent(code):
        raise RemoteError(1002, f"close code {code}")
    return Closing(code, _text(payload[2:]))
