"""Connections that are slow, half open, wrong or many, on the one port of a real worker."""

import contextlib
import http.client
import socket
import time

import pytest

from tests.support.attack import besieged, descriptors
from tests.support.raw_websocket import upgrade_request


@pytest.fixture(scope="module")
def siege(tmp_path_factory):
    with besieged(tmp_path_factory.mktemp("siege"), env={"KICI_AGENT_AUTH": "token"}) as siege:
        yield siege


def dial(siege, data=b""):
    connection = socket.create_connection(("127.0.0.1", siege.house.port), timeout=20)
    connection.sendall(data)
    return connection


def read_to_end(connection):
    data = b""
    with contextlib.suppress(ConnectionError):
        while more := connection.recv(65536):
            data += more
    connection.close()
    return data


# A5 A7: an idle web process must not keep its copy of a socket that it gave away
def test_a_refused_agent_sees_the_end_of_the_connection_at_once(siege):
    for _ in range(20):
        agent = siege.stranger()
        agent.say({"type": "auth.request", "token": "kat_x", "protocolVersion": 1})
        began = time.monotonic()
        assert agent.closed(30)[0] == 4010
        assert time.monotonic() - began < 4
    siege.unharmed()


# A1 A7 W80
def test_three_hundred_half_open_upgrades_stop_nobody(siege):
    half = b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
    waiting = [dial(siege, half) for _ in range(300)]
    silent = [dial(siege, upgrade_request()) for _ in range(300)]
    began = time.monotonic()
    assert siege.house.web("GET", "/health")[0] == 200
    assert siege.house.web("GET", "/status")[0] == 200
    assert time.monotonic() - began < 5
    for connection in silent:
        assert b"101" in read_to_end(connection)[:20]  # upgraded, silent, closed by the timer
    for connection in waiting:
        connection.close()
    siege.unharmed()
    assert all(descriptors(pid) < 64 for pid in siege.vitals.pids)


# W82 W83
@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (upgrade_request(key="bad"), b"400"),
        (upgrade_request(key=None), b"400"),
        (upgrade_request(version="99"), b"426"),
        (upgrade_request(path="/ws/peer"), b"404"),
        (upgrade_request(extra=["X: " + "y" * 200_000]), b"431"),
        (b"\0\1\2\3\r\n\r\n", b"400"),
        (b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"POST /drain HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
        (b"POST /drain HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"421"),
    ],
    ids=lambda part: repr(part[:30]),
)
def test_a_wrong_request_gets_its_status_and_is_closed(siege, request_, answer):
    for _ in range(10):
        connection = dial(siege)
        with contextlib.suppress(OSError):
            connection.sendall(request_)
            connection.shutdown(socket.SHUT_WR)
        head = read_to_end(connection)[:40]
        assert not head or answer in head  # a reset may overtake an early answer
    siege.unharmed()


# W80
def test_a_body_that_comes_a_byte_a_second_holds_up_nobody(siege):
    head = b"POST /nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n"
    slow = [dial(siege, head + b"{") for _ in range(50)]
    for _ in range(3):
        for connection in slow:
            with contextlib.suppress(ConnectionError):
                connection.sendall(b" ")
        began = time.monotonic()
        assert siege.house.web("GET", "/health")[0] == 200
        assert time.monotonic() - began < 3
    for connection in slow:
        connection.close()
    siege.unharmed()


PATHS = ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "//etc/passwd"]
PATHS += ["/jobs/../../etc/passwd", "/static/\x00", "/%ff%fe"]


def test_paths_out_of_the_static_folder_are_404(siege):
    for path in PATHS:
        client = http.client.HTTPConnection("127.0.0.1", siege.house.port, timeout=10)
        client.putrequest("GET", path.replace("\0", "%00"), skip_host=True)
        client.putheader("Host", f"127.0.0.1:{siege.house.port}")
        client.endheaders()
        answer = client.getresponse()
        body = answer.read()
        assert answer.status in (301, 308, 400, 404), (path, answer.status)
        assert b"root:" not in body
        assert b"import" not in body
        client.close()
    siege.unharmed()
