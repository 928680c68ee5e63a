"""Accepting WebSockets: the HTTP half of the server end.

Two ways in, both complete the HTTP upgrade themselves and give a ``ServerConnection``:
  * a route of ``upgrade.upgrade_handler`` (the coordinator):
        handler = upgrade_handler({"/ws/peer": websocket_route(serve, max_size=…)})
        WSGIServer(listener, app, handler_class=handler, log=None)
    with ``serve(connection, upgrade)`` running in the connection's greenlet;
  * ``accept_passed(fd, headers, path, early)`` for a socket that another process passed
    (the pool).
"""

import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

import gevent.socket

from kici.shell.server_connection import ServerConnection
from kici.shell.server_sending import WRITE_TIMEOUT_S
from kici.shell.upgrade import Upgrade
from kici.shell.websocket import Disconnected, UpgradeRefused, check_upgrade

__all__ = [
    "ServerConnection",
    "accept",
    "accept_passed",
    "keep_alive",
    "refuse_passed",
    "websocket_route",
]

#: Largest message unless the caller says otherwise (agent spec 1.2, peer spec 1.2).
MAX_SIZE = 25 * 2**20
#: The same for somebody who has not proven who he is: thousands may dial.
MAX_STRANGER_SIZE = 64 * 1024
#: As long as an agent may be silent in spite of pings (agent spec A25).
_UNACKNOWLEDGED_MS = 90_000


def websocket_route(
    serve: Callable[[ServerConnection, Upgrade], None], *, max_size: int = MAX_SIZE
) -> Callable[[Upgrade], None]:
    """A route for ``upgrade_handler``: accept, call ``serve``, close what it left open."""

    def route(upgrade: Upgrade) -> None:
        try:
            connection = accept(upgrade, max_size=max_size)
        except (UpgradeRefused, OSError):
            return
        try:
            serve(connection, upgrade)
        except BaseException:
            connection.close(1011, "internal error")
            raise
        connection.close()

    return route


def accept(upgrade: Upgrade, *, max_size: int = MAX_SIZE) -> ServerConnection:
    """Answer 101 and return the open connection.

    ``UpgradeRefused`` after answering 400, 405 or 426 and closing the socket.
    """
    sock = upgrade.socket
    try:
        key = check_upgrade(upgrade.method, list(upgrade.headers))
        answer = (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Accept: {key}\r\n\r\n"
        )
        _tune(sock)
        _answer(sock, answer)
    except UpgradeRefused as refused:
        with contextlib.suppress(OSError):
            _answer(sock, _refusal(refused))
        sock.close()
        raise
    except OSError:
        sock.close()
        raise
    return ServerConnection(sock, early=upgrade.early, remote=upgrade.remote, max_size=max_size)


def _tune(sock: Any) -> None:
    """Small frames go at once; the kernel gives up on a host that acknowledges nothing."""
    if sock.family not in (gevent.socket.AF_INET, gevent.socket.AF_INET6):
        return
    sock.setsockopt(gevent.socket.IPPROTO_TCP, gevent.socket.TCP_NODELAY, 1)
    option = getattr(gevent.socket, "TCP_USER_TIMEOUT", None)  # not on macOS
    if option is not None:
        sock.setsockopt(gevent.socket.IPPROTO_TCP, option, _UNACKNOWLEDGED_MS)


def _answer(sock: Any, text: str) -> None:
    sock.settimeout(WRITE_TIMEOUT_S)
    sock.sendall(text.encode("latin-1"))
    sock.settimeout(None)


def _refusal(refused: UpgradeRefused) -> str:
    body = refused.reason + "\n"
    version = "Sec-WebSocket-Version: 13\r\n" if refused.status.startswith("426") else ""
    return (
        f"HTTP/1.1 {refused.status}\r\nContent-Type: text/plain; charset=utf-8\r\n{version}"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    )


def accept_passed(
    fd: int,
    headers: Sequence[tuple[str, str]],
    path: str,
    early: bytes,
    *,
    remote: str = "",
    max_size: int = MAX_SIZE,
) -> ServerConnection:
    """Take over the socket ``fd`` (owned from here on, closed also on failure).

    ``headers`` are those of the upgrade request that another process read; the rest as
    ``accept``. ``OSError`` when ``fd`` is no socket or the client is gone.
    """
    try:
        sock = gevent.socket.socket(fileno=fd)
    except OSError:
        os.close(fd)
        raise
    sock.setblocking(True)
    upgrade = Upgrade(
        path=path,
        method="GET",
        headers=tuple(headers),
        remote=remote,
        early=early,
        socket=sock,
    )
    return accept(upgrade, max_size=max_size)


def refuse_passed(fd: int) -> None:
    """Close a passed socket without an answer: we have too many."""
    socket.close(fd)  # not os.close, see Link._write


def keep_alive(connection: ServerConnection, interval_s: float, dead_after_s: float) -> None:
    """Ping whenever nothing was heard for ``interval_s``; abort after ``dead_after_s`` of
    silence. Runs until the connection is over: spawn it."""
    while not connection.closed:
        silent_s = connection.silent_s()
        if silent_s >= dead_after_s:
            connection.abort()
            return
        if silent_s >= interval_s:
            with contextlib.suppress(Disconnected):
                connection.ping()
        connection.wait_ended(interval_s / 2)
