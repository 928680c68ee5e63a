"""The coordinator's process: bind, serve, tick, leave in order (C57)."""

import fcntl
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import gevent.socket
from gevent.pywsgi import WSGIServer

from kici.coordinator.admin_token import admin_token
from kici.coordinator.api import Api
from kici.coordinator.service import Service
from kici.coordinator.settings import ENDPOINT_FILE, CoordinatorSettings
from kici.coordinator.store import BATCH_S
from kici.errors import ConfigError, Problem
from kici.shell.durable import write_atomic
from kici.shell.upgrade import upgrade_handler
from kici.shell.websocket_server import MAX_STRANGER_SIZE, websocket_route

_log = logging.getLogger("kici.coordinator")
TICK_S = 0.5
#: Connections that may wait to be accepted: 2,000 workers come back at once after a restart.
BACKLOG = 4096
#: One blocked read or write of an HTTP client; waiting readers are quiet for 30 s.
STALL_S = 60.0
#: How long peers get to answer our close.
LEAVE_S = 5.0
LOCK_FILE = "lock"
EXIT_OK = 0
EXIT_CONFIG = 2


def run(settings: CoordinatorSettings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code. The caller has monkey-patched."""
    try:
        lock = _own(settings.data_dir)
        service = Service(settings)
        token = admin_token(settings.data_dir)
        listener = _bind(settings)
    except ConfigError as error:
        print(f"kici-coordinator: {error}", file=sys.stderr)
        return EXIT_CONFIG
    _allow_many_files()
    stop = gevent.event.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stop.set)
    server = _serve(listener, service, token)
    _announce(settings, listener.getsockname()[1])
    loops = start_loops(service)
    stop.wait()
    _log.info("Coordinator shutting down", extra={"peers": service.n_open})
    service.leave()
    _wait_for_peers(service)
    gevent.killall(loops)
    server.stop(timeout=1.0)
    service.store.close()
    os.close(lock)
    return EXIT_OK


def _own(data_dir: str) -> int:
    """A locked descriptor, kept while we run: two coordinators on one database would place
    each other's jobs, and the commands would find the one that started last."""
    try:
        lock = os.open(Path(data_dir) / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError([Problem(data_dir, f"cannot be used: {error.strerror}")]) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ConfigError([Problem(data_dir, "another coordinator runs on it")]) from None
    return lock


def _allow_many_files() -> None:
    """A worker is a descriptor; the usual soft limit of 1,024 is for select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # macOS reports a hard limit that it does not grant
        _log.debug("Open file limit stays", extra={"limit": soft})


def _bind(settings: CoordinatorSettings) -> Any:
    family = gevent.socket.AF_INET6 if ":" in settings.host else gevent.socket.AF_INET
    listener = gevent.socket.socket(family, gevent.socket.SOCK_STREAM)
    listener.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        where = f"{settings.host}:{settings.port}"
        raise ConfigError([Problem(where, f"cannot listen: {error.strerror}")]) from error
    return listener


def _serve(listener: Any, service: Service, token: str) -> WSGIServer:
    peers = websocket_route(service.serve_peer, max_size=MAX_STRANGER_SIZE)
    routed = upgrade_handler({"/ws/peer": peers})

    class Handler(routed):  # type: ignore[misc, valid-type]
        def __init__(self, sock: Any, *rest: Any) -> None:
            sock.settimeout(STALL_S)
            super().__init__(sock, *rest)

    server = WSGIServer(
        listener, Api(service).app(token), handler_class=Handler, log=None, error_log=None
    )
    server.start()
    return server


def _announce(settings: CoordinatorSettings, port: int) -> None:
    # Where ``kici`` and ``kici-admin`` on this machine find us.
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    write_atomic(Path(settings.data_dir) / ENDPOINT_FILE, f"{url}\n".encode())
    if settings.port_file:
        write_atomic(Path(settings.port_file), f"{port}\n".encode(), 0o644)
    fields = {"port": port, "host": settings.host, "dataDir": settings.data_dir, "pid": os.getpid()}
    _log.info("Coordinator listening", extra=fields)


def start_loops(service: Service) -> list[gevent.Greenlet]:
    """What goes on by itself: deadlines and commits."""
    return [gevent.spawn(_for_ever, _tick, service), gevent.spawn(_for_ever, _flush, service)]


def _for_ever(loop: Callable[[Service], None], service: Service) -> None:
    """A bug in a loop ends the process rather than its work in silence."""
    try:
        loop(service)
    except Exception:  # noqa: BLE001 - said, then the process ends
        _log.critical("Coordinator loop failed", exc_info=True)
        os._exit(1)


def _tick(service: Service) -> None:
    while True:
        gevent.sleep(TICK_S)
        service.tick()


def _flush(service: Service) -> None:
    """Commit what was written, ``BATCH_S`` after the first of it; no wake-up while idle."""
    written = gevent.event.Event()
    service.store.on_begin = written.set
    written.set()
    while True:
        written.wait()
        gevent.sleep(BATCH_S)
        written.clear()
        service.flush()


def _wait_for_peers(service: Service) -> None:
    with gevent.Timeout(LEAVE_S, False):
        while service.n_open:
            gevent.sleep(0.02)
