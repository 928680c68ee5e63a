"""The first look at each request: who may ask, and whether Flask is needed to answer.

Flask with its templates is 10 MiB of a worker whose page may not be opened for weeks, so it is
imported by the first request that is not a probe.
"""

import logging
import socket
from collections.abc import Callable, Iterable
from typing import Any

from kici.shell.upgrade import wants_upgrade
from kici.web.desk import Desk
from kici.web.probes import JSON, PROBES, Answer
from kici.web.protect import SECURITY_HEADERS, host_allowed, same_site

logger = logging.getLogger("kici.web")

Environ = dict[str, Any]
Headers = list[tuple[str, str]]
StartResponse = Callable[..., Any]

UNKNOWN_HOST = Answer(
    b'{"error":"unknown Host; see KICI_ALLOWED_HOSTS"}', JSON, "421 Misdirected Request"
)
CROSS_SITE = Answer(b'{"error":"cross-site request refused"}', JSON, "403 Forbidden")
CRASHED = Answer(b'{"error":"Internal server error"}', JSON, "500 Internal Server Error")
NOT_FOUND = Answer(b"404 Not Found", "text/plain; charset=UTF-8", "404 Not Found")


class Door:
    """The WSGI application of the port. Owns: the Flask application, once there is one."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        names = (socket.gethostname(), *desk.settings.allowed_hosts)
        self._own = tuple(name.lower() for name in names)
        base = desk.settings.path_prefix
        self._agent_path = base + "/ws"
        self._probes = {base + path: probe for path, probe in PROBES.items()}
        self._pages: Any = None

    def is_agent(self, environ: Environ) -> bool:
        """Whether this is an agent's upgrade, which is the pool's to judge."""
        return self._is_upgrade(environ) and not self._is_foreign_page(environ)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: Headers, *error: Any) -> Any:
            given = {name.lower() for name, _ in headers}
            ours = [row for row in SECURITY_HEADERS.items() if row[0].lower() not in given]
            return start_response(status, headers + ours, *error)

        answer = self._answer(environ)
        if answer is None:
            return self._flask()(environ, start)  # type: ignore[no-any-return]
        length = str(len(answer.body))
        start(answer.status, [("Content-Type", answer.content_type), ("Content-Length", length)])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]

    def _answer(self, environ: Environ) -> Answer | None:
        """A refusal or a probe's answer; None when it is Flask's."""
        if environ["PATH_INFO"].startswith("//"):
            return NOT_FOUND  # Werkzeug would strip the slashes and find a route
        if not host_allowed(environ.get("HTTP_HOST"), self._own):
            return UNKNOWN_HOST
        if self._is_upgrade(environ):
            return CROSS_SITE  # else ``is_agent`` had said yes
        probe = self._probes.get(environ["PATH_INFO"])
        if probe is None or environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return None
        try:
            return probe(self._desk, environ.get("QUERY_STRING", ""))
        except Exception as error:  # noqa: BLE001 - one answer, as Flask's views have it
            logger.error("Unhandled request error", exc_info=error)
            return CRASHED

    def _is_upgrade(self, environ: Environ) -> bool:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        return path == self._agent_path and method == "GET" and wants_upgrade(environ)

    def _is_foreign_page(self, environ: Environ) -> bool:
        """Browsers say Origin with each upgrade; agents never do, and come by any name."""
        names = ("Host", "Origin", "Sec-Fetch-Site")
        given = {name: environ.get(f"HTTP_{name.upper().replace('-', '_')}") for name in names}
        said = {name: value for name, value in given.items() if value is not None}
        if not said.keys() - {"Host"}:
            return False
        return not (host_allowed(said.get("Host"), self._own) and same_site(said, self._own))

    def _flask(self) -> Any:
        if self._pages is None:
            # Not in a thread, although everything waits meanwhile, seconds on a small board:
            # a greenlet that wants a module which a thread imports is never woken by gevent
            # 24.11 on Python 3.13 (Debian 13).
            from kici.web.app import make_app

            self._pages = make_app(self._desk, self._own)
        return self._pages
