"""The one port of the worker: bound by the supervisor, served by web.

Held here so that a restart of web refuses no connection: the kernel queues them.
"""

import socket

from kici.errors import KiciError

#: Connections that wait while web restarts; 500 agents reconnecting at once fit.
BACKLOG = 1024


class PortUnavailable(KiciError):
    """The port cannot be listened on; the text is for people."""


def open_listener(host: str, port: int) -> socket.socket:
    """A listening socket on ``host`` (name, IPv4 or IPv6 address) and ``port``."""
    try:
        infos = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _name, address = infos[0]
        return _listen(family, kind, protocol, address)
    except OSError as error:
        reason = error.strerror or str(error)
        raise PortUnavailable(
            f"Cannot listen on {host} port {port}: {reason} (KICI_HOST and KICI_PORT set them)"
        ) from error


def _listen(family: int, kind: int, protocol: int, address: tuple) -> socket.socket:
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and address[0] == "::":
            # "Everywhere" means IPv4 too, whatever net.ipv6.bindv6only says.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
