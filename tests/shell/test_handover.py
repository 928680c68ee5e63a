"""Sockets that go from one process to another, over a real link between real processes."""

import os
import signal
import subprocess
import sys
import time

import gevent
import pytest
from gevent.pywsgi import WSGIServer

from kici.shell.handover import handover_route
from kici.shell.link import Link, new_boot_id, socketpair
from kici.shell.upgrade import upgrade_handler
from kici.shell.websocket import Disconnected
from kici.shell.websocket_server import accept_passed
from tests.support import giving_process
from tests.support import raw_websocket as raw

WAIT_S = 10
N_CONNECTIONS = 320


class Taker:
    """The pool reduced to its end: accepts every passed socket and echoes."""

    def __init__(self, link):
        self.link = link
        self.passed = []
        self.connections = []
        self.greenlets = [gevent.spawn(self.take)]

    def take(self):
        while True:
            envelope, fds = self.link.receive()
            message = envelope.body
            self.passed.append(message)
            (fd,) = fds
            connection = accept_passed(fd, message.headers, message.path, message.early)
            self.connections.append(connection)
            self.greenlets.append(gevent.spawn(self.echo, connection))

    def echo(self, connection):
        try:
            while True:
                connection.send_text(connection.receive())
        except Disconnected:
            return

    def close(self):
        gevent.killall(self.greenlets)
        for connection in self.connections:
            connection.abort()
        self.link.close()


def n_descriptors():
    return len(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))


@pytest.fixture
def across():
    """``(port, process, taker)``: a giving process and the taker in this one."""
    ours, theirs = socketpair()
    process = subprocess.Popen(
        [sys.executable, giving_process.__file__, str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    theirs.close()
    port = int(process.stdout.readline())
    taker = Taker(Link(ours.detach(), name="pool", neighbour="web", boot_id=new_boot_id()))
    yield port, process, taker
    taker.close()
    process.kill()
    process.wait(WAIT_S)
    process.stdout.close()


def dial(port):
    return raw.RawClient.dial(("127.0.0.1", port), timeout_s=WAIT_S)


def say(client, content):
    client.send(raw.text(content))
    return client.frame() == (1, content.encode())


# A1
def test_hundreds_of_sockets_are_handed_over_and_outlive_the_giver(across):
    port, process, _taker = across
    clients = [dial(port) for _ in range(N_CONNECTIONS)]
    for client in clients:
        client.send(raw.upgrade_request("/base/ws"))
    for client in clients:
        assert client.head().startswith("HTTP/1.1 101 ")
    assert all(say(client, "before") for client in clients)
    process.send_signal(signal.SIGKILL)
    process.wait(WAIT_S)
    assert all(say(client, "after") for client in clients)
    for client in clients:
        client.shut()


def test_bytes_that_came_too_early_go_along(across):
    port, _process, taker = across
    client = dial(port)
    client.send(raw.upgrade_request("/base/ws", extra=["X-Tag: a:b"]) + raw.text("early"))
    client.head()
    assert client.frame() == (1, b"early")
    assert say(client, "late")
    (message,) = taker.passed
    assert message.early == raw_early(message.early)
    assert ("X-Tag", "a:b") in message.headers
    assert message.remote == f"127.0.0.1:{client.sock.getsockname()[1]}"
    client.shut()


def raw_early(early):
    """Either all of the frame was read with the request or none of it."""
    assert early == b"" or early.startswith(b"\x81\x85")
    return early


def test_a_kept_alive_connection_may_be_handed_over_after_plain_requests(across):
    port, _process, _taker = across
    client = dial(port)
    for _ in range(2):
        client.send(b"GET /base/status HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.head().startswith("HTTP/1.1 200 ")
        client._exactly(5)
    client.upgrade("/base/ws")
    assert say(client, "hello")
    client.shut()


def test_the_giver_keeps_no_descriptor_of_what_it_gave(across):
    if not os.path.isdir("/proc"):
        pytest.skip("needs /proc")
    port, process, _taker = across
    directory = f"/proc/{process.pid}/fd"
    warm = dial(port)
    warm.upgrade("/base/ws")
    # May still hold the first client's own: the client knows of the upgrade before the close.
    before = len(os.listdir(directory))
    clients = [dial(port) for _ in range(50)]
    for client in clients:
        client.upgrade("/base/ws")
    deadline = time.monotonic() + WAIT_S
    while len(os.listdir(directory)) > before and time.monotonic() < deadline:
        gevent.sleep(0.02)
    assert len(os.listdir(directory)) <= before
    for client in [warm, *clients]:
        client.shut()


def test_a_bad_key_is_refused_by_the_taker():
    passed = []
    handler = upgrade_handler({"/ws": handover_route(lambda *args: passed.append(args))})
    server = WSGIServer(("127.0.0.1", 0), giving_process.plain, handler_class=handler, log=None)
    server.start()
    before = n_descriptors()
    client = raw.RawClient.dial(server.address)
    client.send(raw.upgrade_request("/ws", key="bad"))
    deadline = time.monotonic() + WAIT_S
    while not passed and time.monotonic() < deadline:
        gevent.sleep(0.01)
    message, (fd,) = passed[0]
    with pytest.raises(Exception, match="400"):
        accept_passed(fd, message.headers, message.path, message.early)
    assert client.head().startswith("HTTP/1.1 400 ")
    client.shut()
    server.stop(timeout=1)
    assert n_descriptors() <= before
