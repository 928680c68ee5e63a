"""Giving an agent's socket from web to pool (docs/architecture.md).

The web process accepts everything on the one port. An upgrade on ``<base>/ws`` leaves it
unanswered: the socket goes over the pool-web link with the request's headers and the bytes
that were read too early; the pool answers 101 (``websocket_server.accept_passed``) and the
connection no longer depends on the web process.

    routes = {base + "/ws": handover_route(lambda message, fds: shell.tell("pool", message, fds))}
    WSGIServer(listener, app, handler_class=upgrade_handler(routes), log=None)
"""

from collections.abc import Callable, Sequence

from kici.contracts.link import Message
from kici.contracts.link.views import SocketPassed
from kici.shell.upgrade import Upgrade

#: Sends a link message and descriptors, which are closed here once they are passed.
Tell = Callable[[Message, Sequence[int]], None]


def handover_route(tell: Tell) -> Callable[[Upgrade], None]:
    """A route for ``upgrade_handler`` that gives each socket away through ``tell``."""

    def route(upgrade: Upgrade) -> None:
        hand_over(upgrade, tell)

    return route


def hand_over(upgrade: Upgrade, tell: Tell) -> None:
    """Give the socket of ``upgrade`` away; blocks while the pool is far behind."""
    message = SocketPassed(
        path=upgrade.path,
        headers=upgrade.headers,
        remote=upgrade.remote,
        early=upgrade.early,
    )
    # Detached, not duplicated: no Python object here may close or shut the connection.
    tell(message, (upgrade.socket.detach(),))
