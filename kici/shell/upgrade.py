"""WebSocket paths beside ordinary WSGI routes on one ``gevent.pywsgi`` server.

    handler = upgrade_handler({"/ws/peer": serve_peer})
    WSGIServer(listener, flask_app, handler_class=handler, log=None)

An upgrade request on a listed path takes its socket out of pywsgi for good and calls the
route in the connection's greenlet; every other request goes to the application. A route
completes the upgrade (``websocket_server.accept``) or gives the socket away (``handover``).
"""

import socket as plain_socket
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from geventwebsocket.handler import WebSocketHandler


class Upgrade(msgspec.Struct, frozen=True, kw_only=True):
    """One upgrade request, with the socket it came on: the receiver of this owns it.

    ``early`` are bytes that followed the request's blank line and were already read.
    ``socket`` is a gevent socket.
    """

    path: str
    method: str
    headers: tuple[tuple[str, str], ...]
    remote: str
    early: bytes
    socket: Any


#: What a route does with an upgrade; the connection is left alone when it returns.
Route = Callable[[Upgrade], None]


def take_socket(handler: Any) -> tuple[plain_socket.socket, bytes]:
    """The socket of a pywsgi handler and what was read from it too early.

    Afterwards pywsgi neither reads, writes nor closes the connection.
    """
    sock = handler.socket
    # Not blocking: peek fills an empty buffer with one read, which must not wait.
    sock.settimeout(0)
    early = bytes(handler.rfile.peek())
    sock.settimeout(None)
    handler.socket = None
    handler.close_connection = True
    return sock, early


def wants_upgrade(environ: Mapping[str, Any]) -> bool:
    """Whether this request asks for a WebSocket, well or badly."""
    return bool(environ.get("HTTP_UPGRADE", "").lower() == "websocket")


def upgrade_handler(routes: Mapping[str, Route]) -> type[WebSocketHandler]:
    """A handler class for ``WSGIServer(handler_class=…)`` that knows ``routes``.

    Keys are exact paths, base path included.
    """

    class UpgradeHandler(_RoutedHandler):
        upgrade_routes = dict(routes)

    return UpgradeHandler


class _RoutedHandler(WebSocketHandler):  # type: ignore[misc]
    """gevent-websocket's handler with another way to upgrade and without its logging."""

    upgrade_routes: Mapping[str, Route] = {}
    _taken = False

    def run_application(self) -> None:
        route = self.upgrade_routes.get(self.environ["PATH_INFO"])
        if route is None or not wants_upgrade(self.environ):
            # Past WebSocketHandler, which would take upgrades of any path.
            super(WebSocketHandler, self).run_application()
            return
        self._taken = True
        route(self._take())

    def _take(self) -> Upgrade:
        environ = self.environ
        headers = tuple((name, value.strip()) for name, value in self._header_pairs())
        remote = f"{environ.get('REMOTE_ADDR', '')}:{environ.get('REMOTE_PORT', '')}"
        sock, early = take_socket(self)
        return Upgrade(
            path=environ["PATH_INFO"],
            method=environ["REQUEST_METHOD"],
            headers=headers,
            remote=remote,
            early=early,
            socket=sock,
        )

    def _header_pairs(self) -> list[tuple[str, str]]:
        return [
            (line.split(":", 1)[0], line.split(":", 1)[1])
            for line in self.headers.headers
            if ":" in line
        ]

    def _send_error_response_if_possible(self, error_code: int) -> None:
        """A route's failure must not write into a socket that is no longer pywsgi's."""
        if not self._taken:
            super()._send_error_response_if_possible(error_code)

    def log_request(self) -> None:
        """Nothing: gevent-websocket logs every plain request."""
