"""JSON over WSGI in a page: routes, bearer token, bounds, errors as ``{"error": …}``."""

import hmac
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO
from urllib.parse import parse_qs

import msgspec

from kici.coordinator.store import StoreError
from kici.errors import ConfigError

_log = logging.getLogger("kici.coordinator")
#: A job document with long scripts fits; nothing else is that long.
MAX_BODY_BYTES = 1024 * 1024
#: Of a file that is sent.
_BLOCK_BYTES = 64 * 1024
_SWALLOW_BYTES = 4 * MAX_BODY_BYTES
_PHRASES = {
    200: "OK", 201: "Created", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found",
    405: "Method Not Allowed", 409: "Conflict", 411: "Length Required", 413: "Content Too Large",
    422: "Unprocessable Content", 429: "Too Many Requests", 500: "Internal Server Error",
    502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip


class HttpError(Exception):
    """Answered as ``{"error": text, …more}``."""

    def __init__(self, status: int, text: str, **more: Any) -> None:
        super().__init__(text)
        self.status = status
        self.body = {"error": text, **more}


class Request(msgspec.Struct, frozen=True):
    """``query`` has the last value of each name; ``path`` what the route's pattern caught."""

    body: bytes
    query: Mapping[str, str]
    path: Mapping[str, str]

    def json(self) -> dict[str, Any]:
        """The body as an object; an empty one is ``{}``."""
        try:
            value = msgspec.json.decode(self.body or b"{}")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise HttpError(400, f"body is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise HttpError(400, "expected a JSON object")
        return value

    def number(self, name: str, default: int, most: int) -> int:
        """A whole number of the query, cut at ``most``."""
        text = self.query.get(name, "")
        if not text:
            return default
        if not text.isascii() or not text.isdigit():
            raise HttpError(400, f"{name}: expected a number")
        # What has more digits than that is above any bound; Python reads 4,300 at most.
        return min(int(text.lstrip("0")[:20] or "0"), most)


Handler = Callable[[Request], tuple[int, Any]]


class Download:
    """A body that is a file instead of JSON; read from where it stands and closed at the end."""

    def __init__(self, file: BinaryIO, n_bytes: int, media_type: str) -> None:
        self._file = file
        self.headers = [("Content-Type", media_type), ("Content-Length", str(n_bytes))]

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self._file.read(_BLOCK_BYTES), b"")

    def close(self) -> None:
        """Called by the WSGI server, whatever became of the client."""
        self._file.close()


class Route(msgspec.Struct, frozen=True):
    """``pattern`` with ``{name}`` parts; ``open`` ones need no token."""

    method: str
    pattern: str
    handler: Handler
    open: bool = False


class JsonApp:
    """A WSGI application. ``base`` is the path before every route."""

    def __init__(self, routes: Iterable[Route], token: str) -> None:
        self._routes = [(re.compile(_regex(route.pattern)), route) for route in routes]
        self._token = token.encode()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        try:
            status, value = self._answer(environ)
        except HttpError as error:
            status, value = error.status, error.body
        except ConfigError as error:
            problems = [{"where": one.where, "what": one.what} for one in error.problems]
            status, value = 422, {"error": "the document is not valid", "problems": problems}
        except StoreError as error:
            _log.error("Database error", extra={"error": str(error)})
            status, value = 503, {"error": "the database refused; try again"}
        if isinstance(value, Download):
            start(f"{status} {_PHRASES[status]}", [*value.headers, ("Cache-Control", "no-store")])
            return value
        body = msgspec.json.encode(value)
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
        ]
        if status == 401:
            headers.append(("WWW-Authenticate", "Bearer"))
        start(f"{status} {_PHRASES[status]}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer(self, environ: dict[str, Any]) -> tuple[int, Any]:
        method = environ["REQUEST_METHOD"].replace("HEAD", "GET")
        matches = [
            (route, match)
            for regex, route in self._routes
            if (match := regex.fullmatch(environ["PATH_INFO"]))
        ]
        for route, match in matches:
            if route.method == method:
                if not route.open:
                    self._authenticate(environ.get("HTTP_AUTHORIZATION", ""))
                query = {key: values[-1] for key, values in _query(environ).items()}
                return route.handler(Request(_body(environ), query, match.groupdict()))
        if matches:
            raise HttpError(405, "method not allowed")
        raise HttpError(404, "not found")

    def _authenticate(self, header: str) -> None:
        scheme, _, presented = header.partition(" ")
        presented_bytes = presented.strip().encode("utf-8", "replace")
        if scheme.lower() != "bearer" or not hmac.compare_digest(presented_bytes, self._token):
            raise HttpError(401, "a valid bearer token is needed")


def _regex(pattern: str) -> str:
    return re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]{1,128})", pattern)


def _query(environ: dict[str, Any]) -> dict[str, list[str]]:
    try:
        return parse_qs(environ.get("QUERY_STRING", ""), max_num_fields=20)
    except ValueError:
        raise HttpError(400, "too many query fields") from None


def _body(environ: dict[str, Any]) -> bytes:
    if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
        return b""
    if environ.get("HTTP_TRANSFER_ENCODING"):
        raise HttpError(411, "a Content-Length is needed")
    length = environ.get("CONTENT_LENGTH") or "0"
    if not (length.isascii() and length.isdigit()):
        raise HttpError(400, "Content-Length is no number")
    if int(length) > MAX_BODY_BYTES:
        # Read a little of it: closing on unread bytes resets the connection, and the client
        # would never see why.
        _read(environ, min(int(length), _SWALLOW_BYTES))
        raise HttpError(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
    return _read(environ, int(length))


def _read(environ: dict[str, Any], length: int) -> bytes:
    try:
        body: bytes = environ["wsgi.input"].read(length)
    except OSError as error:  # it ended, or nothing came for too long
        raise HttpError(400, f"the body cannot be read: {error}") from None
    if len(body) != length:
        raise HttpError(400, "the body is shorter than its Content-Length")
    return body
