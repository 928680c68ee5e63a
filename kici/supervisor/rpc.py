"""``kici-workerctl``'s server: the library's XML-RPC on a Unix socket of mode 0600.

No TCP, no web pages (they would also cost memory in every process). Calls that go around
the drain or read files that we do not have are replaced.
"""

import logging
import os
import socket
from typing import Any, Protocol

from supervisor.http import LogWrapper, supervisor_af_unix_http_server
from supervisor.medusa import asyncore_25 as asyncore
from supervisor.rpcinterface import SupervisorNamespaceRPCInterface
from supervisor.xmlrpc import (
    Faults,
    RPCError,
    SystemNamespaceRPCInterface,
    supervisor_xmlrpc_handler,
)

_log = logging.getLogger("kici.supervisor")

SOCKET_NAME = "supervisor.sock"
_MODE = 0o600


def socket_path(runtime_dir: str) -> str:
    return os.path.join(runtime_dir, SOCKET_NAME)


class Orders(Protocol):
    """What the socket may ask of the worker."""

    options: Any

    def stop(self, source: str) -> None: ...
    def handover(self, source: str) -> None: ...
    def reload(self) -> None: ...


class WorkerRPC(SupervisorNamespaceRPCInterface):
    """The library's calls, with a stop that drains and a reload that is ours."""

    def shutdown(self) -> bool:
        """As SIGTERM."""
        self._update("shutdown")
        self.supervisord.stop("kici-workerctl shutdown")
        return True

    def handOver(self) -> int:  # noqa: N802 (as the library writes names)
        """End at once with agents alive, for the next start to adopt; our pid."""
        self._update("handOver")
        self.supervisord.handover("kici-workerctl handover")
        return os.getpid()

    def reloadConfig(self) -> list:  # noqa: N802 (the library's name)
        """As SIGHUP."""
        self._update("reloadConfig")
        self.supervisord.reload()
        return [[[], [], []]]

    def restart(self) -> bool:
        """The service manager starts workers, not the worker."""
        raise RPCError(Faults.FAILED, "use: systemctl restart kici-worker")

    def addProcessGroup(self, name: str) -> bool:  # noqa: N802
        """The three children are not configurable."""
        raise RPCError(Faults.BAD_NAME, name)

    removeProcessGroup = addProcessGroup  # noqa: N815


def open_server(worker: Orders, runtime_dir: str) -> Any:
    """The listening server, already part of the loop; None (and a warning) when the socket
    cannot be made: the worker works without it."""
    path = socket_path(runtime_dir)
    # Nothing may connect between the library's bind and its chmod.
    before = os.umask(0o177)
    try:
        _remove_stale(path)
        owner = (os.geteuid(), os.getegid())
        server = supervisor_af_unix_http_server(
            path, _MODE, owner, LogWrapper(worker.options.logger)
        )
    except (OSError, ValueError) as error:
        _log.warning("kici-workerctl has no socket", extra={"path": path, "error": str(error)})
        return None
    finally:
        os.umask(before)
    calls = [("supervisor", WorkerRPC(worker))]
    calls.append(("system", SystemNamespaceRPCInterface(calls)))
    server.install_handler(supervisor_xmlrpc_handler(worker, calls))
    return server


def close_server(server: Any, runtime_dir: str) -> None:
    """Close it and its connections, and remove the socket."""
    for dispatcher in list(asyncore.socket_map.values()):
        if getattr(dispatcher, "server", None) is server:
            dispatcher.close()
    server.close()
    try:
        os.unlink(socket_path(runtime_dir))
    except FileNotFoundError:
        pass


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on (the library would wait and write to stderr)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except FileNotFoundError:
            pass
        else:
            raise OSError("another worker uses it")
