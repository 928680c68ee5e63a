"""Hung children, the service manager's watchdog, and a machine like macOS."""

import os
import signal
import socket

import pytest

from tests.support.supervised import CHILDREN, alive, sigterm_and_wait
from tests.support.waiting import wait_for

#: Seconds between pings, and of silence until a child is killed.
QUICK_PINGS = {"TEST_PINGS": "[0.1, 2.0]"}


@pytest.fixture
def manager(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield Manager(listening)


class Manager:
    """The service manager's end: everything it was told so far."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self.told: list[str] = []

    @property
    def environ(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self._listening.getsockname()}

    def read(self) -> list[str]:
        while True:
            try:
                self.told.append(self._listening.recv(1000).decode())
            except BlockingIOError:
                return self.told

    def has(self, start: str) -> bool:
        return any(message.startswith(start) for message in self.read())


def test_a_hung_child_is_killed_and_started_again(supervised):
    worker = supervised(environ=QUICK_PINGS).start_ready()
    before = worker.pids()
    os.kill(before["pool"], signal.SIGSTOP)
    wait_for(lambda: worker.pid_of("pool") != before["pool"], "a new pool")
    wait_for(lambda: worker.n_ready("pool") == 2, "the pool ready again")
    killed = next(line for line in worker.lines() if "does not answer" in line["message"])
    assert killed["child"] == "pool"
    assert {name for name in CHILDREN if worker.pid_of(name) != before[name]} == {"pool"}


def test_the_service_manager_hears_ready_reload_and_stop(supervised, manager):
    worker = supervised(environ=manager.environ).start_ready()
    wait_for(lambda: manager.has("READY=1"), "READY")
    worker.signal(signal.SIGHUP)
    wait_for(lambda: manager.has("RELOADING=1"), "RELOADING")
    wait_for(lambda: sum(m.startswith("READY=1") for m in manager.read()) == 2, "READY again")
    assert sigterm_and_wait(worker)[0] == 0
    assert manager.has("STOPPING=1")


def test_ready_waits_for_every_child(supervised, manager):
    worker = supervised(environ=manager.environ)
    (worker.directory / "peer.crash").touch()
    worker.start()
    wait_for(lambda: any("delayS" in line for line in worker.lines()), "a death of peer")
    wait_for(lambda: worker.n_ready("pool") and worker.n_ready("web"), "the others")
    assert not manager.has("READY=1")
    (worker.directory / "peer.crash").unlink()
    wait_for(lambda: manager.has("READY=1"), "READY")


def test_the_watchdog_is_fed_until_a_child_hangs(supervised, manager):
    environ = {**manager.environ, "TEST_PINGS": "[0.1, 1.0]", "WATCHDOG_USEC": "300000"}
    worker = supervised(environ=environ).start_ready()
    wait_for(lambda: manager.read().count("WATCHDOG=1") > 3, "a fed watchdog")
    os.kill(worker.pid_of("web"), signal.SIGSTOP)
    wait_for(lambda: any("not answer" in m for m in worker.messages()), "the verdict")


# The fallbacks of kici/shell/host.py, with the same supervisor and children.
def test_without_linux_s_calls_children_restart_and_the_stop_is_clean(supervised):
    worker = supervised(environ={"TEST_LIKE_MACOS": "1"}).start_ready()
    old = worker.pid_of("peer")
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: worker.n_ready("peer") == 2, "peer ready again")
    assert worker.answers()
    starts = [m for name in CHILDREN for m in worker.heard(name) if m["sender"] == "start"]
    assert all(start["foreign"] == [] for start in starts), starts
    assert sigterm_and_wait(worker)[0] == 0


def test_without_linux_s_calls_orphans_leave_too(supervised):
    worker = supervised(environ={"TEST_LIKE_MACOS": "1"}).start_ready()
    pids = worker.pids()
    worker.signal(signal.SIGKILL)
    worker.wait()
    for pid in pids.values():
        wait_for(lambda pid=pid: not alive(pid), "the end of an orphan", 10)
