"""pywsgi with bounds: heads, bodies, times and connections are all limited.

A client that is slow or malformed costs one greenlet for at most ``HEAD_S`` seconds; when
``MAX_CONNECTIONS`` are open the one that has been silent longest makes room, so that a
flood of idle connections cannot keep ``/health`` from being answered.
"""

import socket
from collections.abc import Callable
from email import errors
from typing import Any

import gevent
from gevent.pywsgi import WSGIHandler, WSGIServer

#: Open connections; 200 slow clients and a page with its streams fit many times.
MAX_CONNECTIONS = 512
#: From the first byte awaited to the end of the headers (also the keep-alive time).
HEAD_S = 10.0
#: From the end of the headers to the end of the answer, streams excepted.
ANSWER_S = 20.0
#: One blocked read or write, streams included.
STALL_S = 15.0
#: Request line and headers together.
MAX_HEAD_BYTES = 32 * 1024
#: No route of ours needs more.
MAX_BODY_BYTES = 64 * 1024
#: Read and thrown away behind a refused request.
_SWALLOW_BYTES = 256 * 1024

#: The parser of headers is one of mails: it misses the parts of a body that it was not given.
_OF_THE_BODY = (
    errors.NoBoundaryInMultipartDefect,
    errors.StartBoundaryNotFoundDefect,
    errors.MultipartInvariantViolationDefect,
    errors.InvalidMultipartContentTransferEncodingDefect,
)

#: What a view calls (from ``environ``) when its answer is a stream without end.
STREAM_KEY = "kici.stream"

#: Takes a request away from the server when it returns True (WebSocket hand-over).
Upgrade = Callable[["BoundedHandler"], bool]


def _plain(status: str) -> tuple[str, bytes]:
    head = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    return status.split(" ", 1)[0], head.encode()


_TIMEOUT = _plain("408 Request Timeout")
_HEAD_TOO_LARGE = _plain("431 Request Header Fields Too Large")
_BODY_TOO_LARGE = _plain("413 Content Too Large")
_LENGTH_REQUIRED = _plain("411 Length Required")
_BUSY = _plain("503 Service Unavailable")[1]


class HeadTooLarge(ValueError):
    """The headers are above ``MAX_HEAD_BYTES``."""


class BodyTooLarge(ValueError):
    """The announced body is above ``MAX_BODY_BYTES``."""


class LengthMissing(ValueError):
    """A body in chunks: its size is not known beforehand, and no client of ours needs it."""


class _Head:
    """Lends ``readline`` to the header parser and counts what it takes."""

    def __init__(self, rfile: Any) -> None:
        self._rfile = rfile
        self._left = MAX_HEAD_BYTES

    def readline(self, limit: int = -1) -> bytes:
        line: bytes = self._rfile.readline(min(limit, self._left + 1) if limit > 0 else -1)
        self._left -= len(line)
        if self._left < 0:
            raise HeadTooLarge("headers too large")
        return line


class BoundedHandler(WSGIHandler):
    """One connection. ``waiting`` while no complete request is in hand."""

    waiting = True
    server: "BoundedServer"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: gevent.Timeout | None = None

    def handle_one_request(self) -> Any:
        self.waiting = True
        self.server.fell_silent(self.socket)
        self._timer = gevent.Timeout.start_new(HEAD_S)
        try:
            return super().handle_one_request()
        except gevent.Timeout as timeout:
            if timeout is not self._timer:
                raise
            return _TIMEOUT if getattr(self, "requestline", "") else None
        finally:
            self._timer.close()

    def MessageClass(self, *args: Any) -> Any:  # noqa: N802 - pywsgi's name
        return super().MessageClass(_Head(self.rfile), *args[1:])

    def read_request(self, raw_requestline: str) -> Any:
        complete = super().read_request(raw_requestline)
        defects = getattr(self.headers, "defects", ())
        if any(not isinstance(defect, _OF_THE_BODY) for defect in defects):
            raise ValueError("malformed header")
        if (self.content_length or 0) > MAX_BODY_BYTES:
            raise BodyTooLarge("body too large")
        if self.headers.get("transfer-encoding"):
            raise LengthMissing("length required")
        return complete

    def get_environ(self) -> dict[str, Any]:
        self.waiting = False
        self._restart_timer(ANSWER_S)
        environ: dict[str, Any] = super().get_environ()
        environ[STREAM_KEY] = self._without_deadline
        return environ

    def handle_one_response(self) -> None:
        if self.server.upgrade is not None and self.server.upgrade(self):
            self.close_connection = True
            return
        super().handle_one_response()

    def handle_error(self, t: Any, v: Any, tb: Any) -> None:
        if issubclass(t, (gevent.Timeout, OSError)):
            self.close_connection = True  # the client is too slow or gone
            return
        super().handle_error(t, v, tb)

    def _handle_client_error(self, ex: Exception) -> tuple[str, bytes]:
        if isinstance(ex, HeadTooLarge | BodyTooLarge):
            self._swallow()
            return _HEAD_TOO_LARGE if isinstance(ex, HeadTooLarge) else _BODY_TOO_LARGE
        if isinstance(ex, LengthMissing):
            return _LENGTH_REQUIRED
        if isinstance(ex, OSError):
            return _TIMEOUT
        answer: tuple[str, bytes] = super()._handle_client_error(ex)
        return answer

    def log_error(self, msg: str, *args: Any) -> None:
        """A malformed request is the client's mistake: no line each, or they flood the log."""

    def _swallow(self) -> None:
        """Read a little of what is still coming: closing on unread bytes resets the
        connection, and the client would never see why."""
        self.socket.settimeout(0.2)
        left = _SWALLOW_BYTES
        try:
            while left > 0 and (chunk := self.socket.recv(min(left, 65536))):
                left -= len(chunk)
        except OSError:
            return
        finally:
            self.socket.settimeout(STALL_S)

    def _restart_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.close()
        self._timer = gevent.Timeout.start_new(seconds)

    def _without_deadline(self) -> None:
        if self._timer is not None:
            self._timer.close()


class BoundedServer(WSGIServer):
    """Owns: the open connections of the port."""

    def __init__(self, listener: Any, application: Any, upgrade: Upgrade | None = None) -> None:
        super().__init__(
            listener, application, log=None, error_log=None, handler_class=BoundedHandler
        )
        self.upgrade = upgrade
        #: In the order in which they began to wait for a request: the longest silent one first.
        self._open: dict[socket.socket, BoundedHandler] = {}

    @property
    def n_open(self) -> int:
        return len(self._open)

    def handle(self, sock: Any, address: Any) -> None:
        if len(self._open) >= MAX_CONNECTIONS and not self._make_room():
            _refuse(sock)
            return
        sock.settimeout(STALL_S)
        _no_delay(sock)
        handler = self.handler_class(sock, address, self)
        self._open[sock] = handler
        try:
            handler.handle()
        finally:
            del self._open[sock]

    def fell_silent(self, sock: Any) -> None:
        """A connection begins to wait for its first or next request."""
        self._open[sock] = self._open.pop(sock)

    def _make_room(self) -> bool:
        for sock, handler in self._open.items():
            if handler.waiting:
                handler.waiting = False  # not chosen twice while it winds up
                _shut(sock)
                return True
        return False


def _no_delay(sock: Any) -> None:
    """Head and body are two writes: with Nagle's delay a kept-alive answer takes 40 ms."""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        return  # gone already, or not TCP


def _shut(sock: Any) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it was faster


def _refuse(sock: Any) -> None:
    try:
        sock.settimeout(1.0)
        sock.sendall(_BUSY)
    except OSError:
        return
    finally:
        sock.close()
