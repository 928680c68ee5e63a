"""An agent's upgrade on ``/ws`` leaves the web process with its socket and early bytes."""

import os
import socket

import pytest

from kici.contracts.link.views import SocketPassed
from tests.support.web_child import DEADLINE_S, WebChild

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Two: b c\r\n\r\n"
)


@pytest.fixture
def client(web: WebChild):
    with socket.create_connection(("127.0.0.1", web.port), timeout=DEADLINE_S) as sock:
        yield sock


# W90
def test_an_upgrade_reaches_the_pool_with_headers_early_bytes_and_a_live_socket(
    web: WebChild, client: socket.socket
) -> None:
    client.sendall(UPGRADE + b"early")
    message, fds = web.pool.hear(SocketPassed)
    assert message.path == "/ws"
    assert ("X-Two", "b c") in message.headers
    assert message.remote.startswith("127.0.0.1:")
    with socket.socket(fileno=fds[0]) as taken:
        taken.settimeout(DEADLINE_S)
        got = message.early
        while len(got) < 5:
            got += taken.recv(5 - len(got))
        assert got == b"early"
        taken.sendall(b"from pool")
        assert client.recv(100) == b"from pool"


def test_a_passed_connection_outlives_the_web_process(web: WebChild, client: socket.socket) -> None:
    client.sendall(UPGRADE)
    _message, fds = web.pool.hear(SocketPassed)
    with socket.socket(fileno=fds[0]) as taken:
        web.process.kill()
        web.process.wait(DEADLINE_S)
        taken.settimeout(DEADLINE_S)
        taken.sendall(b"still here")
        assert client.recv(100) == b"still here"


def test_the_web_process_keeps_no_descriptor_of_a_passed_connection(web: WebChild) -> None:
    web.json("/health")
    before = _n_fds(web)
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", web.port), timeout=DEADLINE_S) as sock:
            sock.sendall(UPGRADE)
            _message, fds = web.pool.hear(SocketPassed)
            os.close(fds[0])
    web.eventually("/health", lambda _body: _n_fds(web) <= before + 1)


def test_an_upgrade_on_another_path_is_404(web: WebChild) -> None:
    answer = web.raw(
        UPGRADE.replace(b"GET /ws ", b"GET /nope ").replace(
            b"Connection: Upgrade", b"Connection: close"
        )
    )
    assert answer.startswith(b"HTTP/1.1 404")


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        (b"127.0.0.1:4000", b"Origin: https://evil.example", 403),
        (b"127.0.0.1:4000", b"Origin: null", 403),
        (b"127.0.0.1:4000", b"Origin: http://[", 403),
        (b"127.0.0.1:4000", b"Sec-Fetch-Site: cross-site", 403),
        (b"rebound.evil.example", b"Origin: http://rebound.evil.example", 421),
    ],
)
def test_a_web_page_cannot_be_an_agent(
    shared: WebChild, host: bytes, origin: bytes, status: int
) -> None:
    request = UPGRADE.replace(b"Host: 127.0.0.1", b"Host: " + host + b"\r\n" + origin)
    with socket.create_connection(("127.0.0.1", shared.port), timeout=DEADLINE_S) as sock:
        sock.sendall(request)
        assert sock.recv(100).split()[1] == str(status).encode()


def test_an_agent_comes_by_any_name_of_the_worker(web: WebChild, client: socket.socket) -> None:
    client.sendall(UPGRADE.replace(b"Host: 127.0.0.1", b"Host: worker-7.example.org:4000"))
    _message, fds = web.pool.hear(SocketPassed)
    os.close(fds[0])


def test_an_upgrade_under_the_base_path_is_passed(tmp_path) -> None:
    child = WebChild(tmp_path, base_path="/x")
    try:
        with socket.create_connection(("127.0.0.1", child.port), timeout=DEADLINE_S) as sock:
            sock.sendall(UPGRADE.replace(b"GET /ws ", b"GET /x/ws "))
            message, fds = child.pool.hear(SocketPassed)
            assert message.path == "/x/ws"
            os.close(fds[0])
    finally:
        child.close()


def _n_fds(web: WebChild) -> int:
    return len(os.listdir(f"/proc/{web.process.pid}/fd"))
