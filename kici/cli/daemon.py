"""Talking to the local worker (or the one at --url) over its HTTP port."""

import argparse
import http.client
import json
import os
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

from kici.cli.envfile import worker_environment
from kici.cli.verbs import EXIT_UNREACHABLE, EXIT_USAGE, Failed

#: A worker answers in milliseconds; a machine that is thrashing takes longer.
TIMEOUT_S = 10.0
_NO_URL = "expected a URL http://host:port"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options every verb has that speaks to a worker."""
    parser.add_argument("--url", help="base URL (default: the worker on this machine)")
    parser.add_argument("--env-file", metavar="FILE", help="its variables (/etc/kici/worker.env)")
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def daemon_of(args: argparse.Namespace) -> "Daemon":
    """The worker that ``args`` mean; the token is $KICI_ADMIN_TOKEN or its file's."""
    environ = worker_environment(os.environ, args.env_file)
    return Daemon(args.url or local_url(environ), admin_token(environ))


def local_url(environ: Mapping[str, str]) -> str:
    """Where this machine's worker listens, by the same variables as the worker. Raises
    ``Failed`` where they do not say."""
    host = environ.get("KICI_HOST", "").strip() or "127.0.0.1"
    if host in ("0.0.0.0", "::", "[::]"):
        host = "127.0.0.1"
    host = f"[{host.strip('[]')}]" if ":" in host else host
    base = environ.get("KICI_BASE_PATH", "").strip().strip("/")
    return f"http://{host}:{_port(environ)}" + (f"/{base}" if base else "")


def _port(environ: Mapping[str, str]) -> int:
    from kici.config.settings import BY_NAME

    row = BY_NAME["KICI_PORT"]
    text = environ.get(row.name, "")
    try:
        port = row.parse(text if text.strip() else row.default)
    except ValueError as error:
        raise Failed(f"{row.name}: {error}", EXIT_USAGE) from None
    if port == 0:
        raise Failed(f"{row.name}: 0 means any free port; say by --url which it is", EXIT_USAGE)
    assert isinstance(port, int)
    return port


def admin_token(environ: Mapping[str, str]) -> str | None:
    """The token of writing routes, or None when there is none to be read."""
    if token := environ.get("KICI_ADMIN_TOKEN", "").strip():
        return token
    if path := environ.get("KICI_ADMIN_TOKEN_FILE", "").strip():
        try:
            with open(path, encoding="utf-8") as file:
                return file.read(4096).strip() or None
        except (OSError, UnicodeDecodeError):
            return None
    return None


class Event(NamedTuple):
    """One server-sent event; ``id`` is that of the last event which had one."""

    name: str
    data: Any
    id: str


class Daemon:
    """One worker's HTTP surface."""

    def __init__(self, url: str, token: str | None = None) -> None:
        try:
            parts = urllib.parse.urlsplit(url if "//" in url else f"http://{url}")
            port = parts.port
        except ValueError:
            raise Failed(f"{url}: {_NO_URL}", EXIT_USAGE) from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Failed(f"{url}: {_NO_URL}", EXIT_USAGE)
        self.url = url.rstrip("/")
        self._token = token
        self._base = parts.path.rstrip("/")
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._dial = lambda timeout: kind(parts.hostname or "", port, timeout=timeout)

    def ask(self, method: str, path: str, fields: Mapping[str, Any] | None = None) -> Any:
        """The JSON answer; ``Failed`` says what went wrong."""
        with self._reached():
            answer = self._send(method, path, fields, TIMEOUT_S)
            data = answer.read()
        if answer.status not in (200, 202):
            raise Failed(f"{method} {path}: {answer.status} {answer.reason}{_why(data)}")
        return self._decoded(data)

    def text(self, path: str) -> str:
        with self._reached():
            answer = self._send("GET", path, None, TIMEOUT_S)
            data = answer.read()
        if answer.status != 200:
            raise Failed(f"GET {path}: {answer.status} {answer.reason}")
        return data.decode("utf-8", "replace")

    def stream(self, path: str, silence_s: float, after: str = "") -> Iterator["Event"]:
        """The events of a stream beyond the id ``after``, until it ends. ``TimeoutError`` when
        nothing at all came for ``silence_s``."""
        event = known = ""
        for raw in self._raw_lines(path, silence_s, after):
            name, _, value = raw.decode("utf-8", "replace").rstrip("\r\n").partition(":")
            if name == "event":
                event = value.strip()
            elif name == "id":
                known = value.strip()
            elif name == "data":
                yield Event(event, self._decoded(value), known)

    def _raw_lines(self, path: str, silence_s: float, after: str) -> Iterator[bytes]:
        with self._reached():
            known = {"Last-Event-ID": after} if after else {}
            answer = self._send("GET", path, None, silence_s, known)
            if answer.status != 200:
                why = _why(answer.read())
                raise Failed(f"GET {path}: {answer.status} {answer.reason}{why}")
        try:
            yield from answer
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None

    def _decoded(self, data: bytes | str) -> Any:
        try:
            return json.loads(data)
        except ValueError:
            raise Failed(f"{self.url} does not speak like a worker") from None

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        except ValueError:  # its text may quote the token
            what = "the URL or the admin token has characters that HTTP cannot carry"
            raise Failed(f"{self.url}: {what}", EXIT_USAGE) from None

    def _unreachable(self, error: Exception) -> Failed:
        cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Failed(f"Failed to connect to worker at {self.url}: {cause}", EXIT_UNREACHABLE)

    def _send(
        self,
        method: str,
        path: str,
        fields: Mapping[str, Any] | None,
        timeout_s: float,
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> http.client.HTTPResponse:
        headers = {"Content-Type": "application/json", **more}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        body = json.dumps(fields) if fields else None
        connection = self._dial(timeout_s)
        connection.request(method, self._base + path, body, headers)
        return connection.getresponse()


def _why(data: bytes) -> str:
    try:
        return f" ({json.loads(data)['error']})"
    except (ValueError, KeyError, TypeError):
        return ""
