"""What both ends of a WebSocket share: the connection's interface, its errors, close codes.

The server end is ``websocket_server`` (gevent-websocket, repaired), the client end
``websocket_client``. Both give a ``Connection``.
"""

import base64
import binascii
import hashlib
from typing import Protocol

from kici.errors import KiciError

#: RFC 6455 section 1.3.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: A close frame's payload is at most 125 bytes, two of them the code (agent spec 1.6).
MAX_REASON_BYTES = 123
#: Codes that stand for something that no frame said; they are never sent.
NO_CODE = 1005
ABNORMAL = 1006


class Disconnected(KiciError):
    """The connection is over. ``code`` is the close code that was received, or sent by us
    when we ended it; ``ABNORMAL`` when the socket just died; ``NO_CODE`` for an empty close
    frame."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class UpgradeRefused(KiciError):
    """The HTTP request is no WebSocket upgrade that we can take; ``status`` answers it."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason


class Connection(Protocol):
    """One open WebSocket, either end. One greenlet receives; any may send."""

    #: ``host:port`` of the other end, for logs.
    remote: str
    #: Monotonic seconds when the last byte arrived.
    last_heard_at: float

    def send_text(self, text: str | bytes) -> None:
        """Write one text frame (bytes must be UTF-8); blocks while the socket is full.

        ``Disconnected`` when it is over, also when the write time-out ended it.
        """

    def receive(self, timeout_s: float | None = None) -> str | bytes:
        """The next message: str from a text frame, bytes from a binary one.

        ``TimeoutError`` when none came in time (nothing is lost, ask again);
        ``Disconnected`` when the connection is over. Pings are answered meanwhile.
        """

    def ping(self) -> None:
        """Send a ping; its pong shows in ``last_heard_at``."""

    def close(self, code: int = 1000, reason: str = "", timeout_s: float = 5.0) -> None:
        """Say goodbye, wait at most ``timeout_s`` for the answer, close the socket."""

    def abort(self) -> None:
        """Close the socket now, without a word."""

    def pause(self) -> None:
        """Take no further message from the socket: TCP slows the other end down."""

    def resume(self) -> None:
        """The opposite of ``pause``."""

    def allow(self, max_size: int) -> None:
        """From now on messages may be so large, in bytes."""


def cut_reason(reason: str) -> bytes:
    """``reason`` in UTF-8, at most 123 bytes, cut at a character's border (A14)."""
    encoded = reason.encode("utf-8", "replace")
    if len(encoded) <= MAX_REASON_BYTES:
        return encoded
    return encoded[:MAX_REASON_BYTES].decode("utf-8", "ignore").encode("utf-8")


def may_be_sent(code: int) -> bool:
    """Whether a close frame may carry ``code`` (RFC 6455 section 7.4)."""
    return code in (1000, 1001, 1002, 1003) or 1007 <= code <= 1014 or 3000 <= code <= 4999


def accept_key(key: str) -> str:
    """``Sec-WebSocket-Accept`` for a ``Sec-WebSocket-Key``; ValueError when it is none."""
    try:
        raw = base64.b64decode(key.strip().encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError("Sec-WebSocket-Key is not base64") from None
    if len(raw) != 16:
        raise ValueError("Sec-WebSocket-Key is not 16 bytes")
    digest = hashlib.sha1(key.strip().encode("ascii") + _GUID).digest()
    return base64.b64encode(digest).decode("ascii")


def header(headers: "tuple[tuple[str, str], ...] | list[tuple[str, str]]", name: str) -> str:
    """The value of the header ``name`` (case does not count); several are joined by commas."""
    wanted = name.lower()
    return ",".join(value.strip() for key, value in headers if key.lower() == wanted)


def check_upgrade(method: str, headers: "list[tuple[str, str]]") -> str:
    """The ``Sec-WebSocket-Accept`` value of a sound upgrade request, else ``UpgradeRefused``."""
    if method != "GET":
        raise UpgradeRefused("405 Method Not Allowed", "a WebSocket upgrade is a GET")
    if header(headers, "Upgrade").lower() != "websocket":
        raise UpgradeRefused("426 Upgrade Required", "this path speaks WebSocket only")
    tokens = [token.strip().lower() for token in header(headers, "Connection").split(",")]
    if "upgrade" not in tokens:
        raise UpgradeRefused("400 Bad Request", "Connection: Upgrade is missing")
    if header(headers, "Sec-WebSocket-Version") != "13":
        raise UpgradeRefused("426 Upgrade Required", "Sec-WebSocket-Version must be 13")
    try:
        return accept_key(header(headers, "Sec-WebSocket-Key"))
    except ValueError as error:
        raise UpgradeRefused("400 Bad Request", str(error)) from None
