"""Fake peer, pool and web for the supervisor's process tests, and the program that runs them.

Steered by files in the runtime directory: ``<child>.cannot-boot`` (text: the reason),
``<child>.stuck`` (a loop that never turns), ``pool.busy`` (no ``drain.done`` while it
exists). Each child appends what it hears to ``<child>.heard``, one JSON line a message.
"""

import json
import os
import socket
import sys
import time
from pathlib import Path

import msgspec

from kici.config.model import Config, ScalerConfig, Settings
from kici.contracts.link import lifecycle as link
from kici.contracts.states import ChildName


def config(directory: Path, port: int, **settings: object) -> Config:
    values = {
        "role": "worker",
        "coordinator_urls": ("ws://127.0.0.1:1/ws/peer",),
        "credential_file": str(directory / "credential"),
        "instance_id": "test",
        "data_dir": str(directory),
        "runtime_dir": str(directory),
        "host": "127.0.0.1",
        "port": port,
    }
    return Config(settings=Settings(**{**values, **settings}), scalers=ScalerConfig())


def run_child(boot) -> int:
    import gevent

    from kici.shell.child import ChildShell

    directory = Path(boot.config.settings.runtime_dir)
    heard = (directory / f"{boot.name}.heard").open("a", buffering=1)
    fds = sorted(int(fd) for fd in os.listdir("/dev/fd") if int(fd) > 2)
    own = {*boot.link_fds.values(), heard.fileno()}
    own |= {boot.listen_fd} if boot.listen_fd is not None else set()
    foreign = [os.readlink(f"/dev/fd/{fd}") for fd in fds if fd not in own and _is_open(fd)]
    _write(heard, "start", {"pid": os.getpid(), "foreign": foreign})
    shell = ChildShell(boot)
    cannot = directory / f"{boot.name}.cannot-boot"
    if cannot.exists():
        shell.fail(cannot.read_text(), configuration="configuration" in cannot.read_text())
    if (directory / f"{boot.name}.crash").exists():
        raise RuntimeError("crash asked for")
    shell.ready()
    if boot.listen_fd is not None:
        gevent.spawn(_serve, boot.listen_fd)
    if boot.name == ChildName.WEB:
        gevent.spawn(_orders, directory, shell)
    if (directory / f"{boot.name}.stuck").exists():
        import signal

        os.kill(os.getpid(), signal.SIGSTOP)
    while True:
        received = shell.inbox.get()
        body = msgspec.to_builtins(received.body)
        _write(heard, received.sender, body)
        if isinstance(received.body, link.DrainState) and received.body.draining:
            gevent.spawn(_drain, directory, boot.name, shell, received.body)
        if isinstance(received.body, link.DrainCut):
            (directory / "pool.busy").unlink(missing_ok=True)
        if isinstance(received.body, link.Leave):
            (directory / "order").open("a").write(f"{boot.name}\n")
            shell.flush(1)
            return 0


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _write(heard, sender: str, body: dict) -> None:
    heard.write(json.dumps({"sender": sender, **body}, default=repr) + "\n")


def _drain(directory: Path, name: str, shell, state: link.DrainState) -> None:
    import gevent

    if name != ChildName.POOL:
        return
    if state.handover:
        while (directory / "pool.waiting").exists():
            gevent.sleep(0.02)
        shell.tell("supervisor", link.HandoverReady(rev=state.rev))
    while (directory / "pool.busy").exists():
        gevent.sleep(0.02)
    shell.tell("supervisor", link.DrainDone(rev=state.rev))


def _serve(listen_fd: int) -> None:
    import gevent.socket

    listener = gevent.socket.socket(fileno=listen_fd)
    while True:
        connection, _address = listener.accept()
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
        connection.close()


def _orders(directory: Path, shell) -> None:
    """What a view would send: the file ``web.ask`` names a message."""
    import gevent

    wishes = {
        "drain": link.DrainRequest(source="test", reason="asked"),
        "undrain": link.UndrainRequest(source="test"),
        "reload": link.ReloadRequest(source="test"),
    }
    while True:
        try:
            wish = (directory / "web.ask").read_text()
            (directory / "web.ask").unlink()
            shell.tell("supervisor", wishes[wish])
        except FileNotFoundError:
            gevent.sleep(0.02)


def _load(directory: Path, config_: Config):
    from kici.errors import ConfigError, Problem

    def load() -> Config:
        if (directory / "bad").exists():
            raise ConfigError([Problem(where="scalers.yaml: scalers", what="expected a list")])
        port = 1 if (directory / "other-port").exists() else config_.settings.port
        settings = msgspec.structs.replace(config_.settings, port=port)
        return Config(settings=settings, scalers=ScalerConfig(global_max_agents=7))

    return load


def _like_macos() -> None:
    from kici.shell import host

    sys.modules["setproctitle"] = None
    host.link_kind = lambda: socket.SOCK_DGRAM
    host.FD_DIRECTORIES = ()
    host.abstract_sockets = lambda: False


def main() -> int:
    """``python fake_children.py DIRECTORY PORT [JSON of settings]``; logs JSON lines."""
    import logging

    if os.environ.get("TEST_LIKE_MACOS"):
        _like_macos()
    directory, port = Path(sys.argv[1]), int(sys.argv[2])
    settings = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}

    class Lines(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            skipped = logging.LogRecord("", 0, "", 0, "", None, None).__dict__
            fields = {k: v for k, v in record.__dict__.items() if k not in skipped}
            line = {"at": time.time(), "level": record.levelname, "message": record.getMessage()}
            if record.exc_info:
                line["stack"] = self.formatException(record.exc_info)
            return json.dumps({**line, **fields}, default=str)

    logging.raiseExceptions = False  # as kici.log: a broken pipe is nobody's news (W150)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(Lines())
    logging.basicConfig(level=logging.DEBUG, handlers=[handler])
    from kici.supervisor.liveness import Liveness
    from kici.supervisor.main import run

    interval_s, hung_after_s = json.loads(os.environ.get("TEST_PINGS", "[20, 60]"))
    made = config(directory, port, **settings)
    return run(
        made,
        children=lambda: dict.fromkeys(list(ChildName)[1:], run_child),
        load=_load(directory, made),
        liveness=Liveness(interval_s, hung_after_s),
    )


if __name__ == "__main__":
    sys.exit(main())
