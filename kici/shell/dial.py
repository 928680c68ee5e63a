"""TCP and TLS connections with the reason of a failure in plain words."""

import contextlib
import socket
import ssl

import gevent.socket
from gevent.ssl import SSLContext

from kici.errors import KiciError

#: A silent NAT or a dead host shows within 60 + 4 * 15 s; the peer link's own 90 s rule and
#: heartbeats notice earlier, this serves connections that only wait.
_KEEPALIVE_IDLE_S = 60
_KEEPALIVE_INTERVAL_S = 15
_KEEPALIVE_PROBES = 4
#: An upgrade answer whose head is longer is no upgrade answer.
_MAX_HEAD_BYTES = 64 * 1024


class ConnectFailed(KiciError):
    """No connection; ``reason`` is for people, ``status`` the HTTP status if one came."""

    def __init__(self, reason: str, status: int | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


def dial(host: str, port: int, *, secure: bool):
    """A connected gevent socket, wrapped in TLS when ``secure``.

    The caller bounds the time (``gevent.Timeout``). Raises ``ConnectFailed``.
    """
    where = f"{host}:{port}"
    try:
        plain = gevent.socket.create_connection((host, port))
    except socket.gaierror as error:
        raise ConnectFailed(f"name {host} cannot be resolved: {error.strerror}", None) from error
    except ConnectionRefusedError as error:
        raise ConnectFailed(f"connection refused by {where}", None) from error
    except OSError as error:
        raise ConnectFailed(f"cannot reach {where}: {error.strerror or error}", None) from error
    _tune(plain)
    return _wrap(plain, host) if secure else plain


def _wrap(plain, host: str):
    # gevent's own class, so that TLS is cooperative also where nothing is monkey-patched.
    context = SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The system's store; SSL_CERT_FILE and SSL_CERT_DIR are honoured by OpenSSL.
    context.load_default_certs()
    # The handshake by hand: a failed one inside ``wrap_socket`` leaves the socket open.
    secure = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
    try:
        secure.do_handshake()
    except ssl.SSLCertVerificationError as error:
        secure.close()
        raise ConnectFailed(f"TLS failed: {error.verify_message}", None) from error
    except ssl.SSLError as error:
        secure.close()
        raise ConnectFailed(f"TLS failed: {error.reason or error}", None) from error
    except OSError as error:
        secure.close()
        raise ConnectFailed(f"TLS failed: {error.strerror or error}", None) from error
    except BaseException:
        secure.close()
        raise
    return secure


def _tune(plain) -> None:
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # macOS names the idle time TCP_KEEPALIVE.
    idle = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)
    for option, value in (
        (idle, _KEEPALIVE_IDLE_S),
        (getattr(socket, "TCP_KEEPINTVL", None), _KEEPALIVE_INTERVAL_S),
        (getattr(socket, "TCP_KEEPCNT", None), _KEEPALIVE_PROBES),
    ):
        if option is not None:
            with contextlib.suppress(OSError):
                plain.setsockopt(socket.IPPROTO_TCP, option, value)


def close_quietly(transport) -> None:
    """Close what may be None or broken already."""
    if transport is not None:
        with contextlib.suppress(OSError):
            transport.close()


def read_upgrade(transport) -> bytes:
    """The head of an upgrade's answer and what came with it; ``ConnectFailed`` unless 101.

    Decided on the status line alone: the body of a refusal may never end.
    """
    head = b""
    while b"\r\n\r\n" not in head:
        data = transport.recv(_MAX_HEAD_BYTES)
        if not data:
            raise ConnectFailed("connection closed during the upgrade", None)
        head += data
        if len(head) > _MAX_HEAD_BYTES and b"\r\n\r\n" not in head:
            raise ConnectFailed("no HTTP answer: its head has no end", None)
    version, _, rest = head.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")
    status = rest.partition(" ")[0]
    if not version.startswith("HTTP/") or not status.isdigit():
        raise ConnectFailed("no HTTP answer", None)
    if status != "101":
        raise ConnectFailed(f"HTTP {status} instead of 101", int(status))
    return head
