"""The service manager's side is a real datagram socket."""

import os
import socket

import pytest

from kici.shell import host
from kici.shell.notify import Notifier


@pytest.fixture
def manager(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


def test_ready_and_status_reach_the_manager(manager):
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    notifier.ready("all well")
    assert manager.recv(1000) == b"READY=1\nSTATUS=all well"
    notifier.status("draining")
    notifier.status("draining")  # unchanged: not sent again
    notifier.watchdog()
    assert manager.recv(1000) == b"STATUS=draining"
    assert manager.recv(1000) == b"WATCHDOG=1"
    notifier.stopping("bye")
    assert manager.recv(1000) == b"STOPPING=1\nSTATUS=bye"


def test_reloading_carries_the_monotonic_time(manager):
    Notifier({"NOTIFY_SOCKET": manager.getsockname()}).reloading()
    first, second = manager.recv(1000).decode().split("\n")
    assert first == "RELOADING=1"
    assert second.startswith("MONOTONIC_USEC=")
    assert int(second.partition("=")[2]) > 0


@pytest.mark.skipif(not host.abstract_sockets(), reason="abstract sockets are Linux's")
def test_an_abstract_socket_is_reached():
    name = f"kici-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name)
        listening.settimeout(5)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).watchdog()
        assert listening.recv(1000) == b"WATCHDOG=1"


def test_without_a_manager_nothing_happens():
    notifier = Notifier({})
    notifier.ready("x")
    notifier.watchdog()
    assert notifier.watchdog_s is None


def test_a_manager_that_is_gone_is_not_an_error(tmp_path):
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready("x")


def test_an_abstract_socket_is_ignored_where_there_are_none(monkeypatch):
    monkeypatch.setattr(host, "abstract_sockets", lambda: False)
    Notifier({"NOTIFY_SOCKET": "@x"}).ready("x")


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_period_is_read_when_it_is_meant_for_us(environ, seconds):
    notifier = Notifier({"NOTIFY_SOCKET": "/x", **environ}, pid=7)
    assert notifier.watchdog_s == seconds
