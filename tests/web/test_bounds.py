"""Slow, malformed and greedy clients (issue 5, "Protection")."""

import http.client
import socket
import statistics
import time

import pytest

from tests.support.web_child import DEADLINE_S, WebChild


def test_a_head_above_the_limit_is_431(shared: WebChild) -> None:
    lines = b"".join(b"X-%d: %s\r\n" % (n, b"a" * 1000) for n in range(60))
    assert shared.raw(b"GET /health HTTP/1.1\r\n" + lines + b"\r\n").startswith(b"HTTP/1.1 431")


def test_a_request_line_above_the_limit_is_414(shared: WebChild) -> None:
    answer = shared.raw(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n")
    assert b" 414 " in answer.split(b"\r\n")[0]


def test_a_body_above_the_limit_is_413_without_being_read(shared: WebChild) -> None:
    answer = shared.raw(b"POST /drain HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413")


def test_a_body_in_chunks_is_411(shared: WebChild) -> None:
    answer = shared.raw(b"POST /drain HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n")
    assert answer.startswith(b"HTTP/1.1 411")


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nno colon here\r\n\r\n",
    ],
)
def test_junk_is_400_and_the_process_lives(shared: WebChild, junk: bytes) -> None:
    assert shared.raw(junk)[:12] in (b"HTTP/1.1 400", b"HTTP/1.0 400")
    assert shared.request("GET", "/health")[0] == 200


def test_bytes_that_are_no_text_do_not_hurt(shared: WebChild) -> None:
    shared.raw(b"GET /%ff%fe\xff?\xff HTTP/1.0\r\nX: \xff\r\n\r\n")
    assert shared.request("GET", "/health")[0] == 200


def test_answers_on_one_connection_come_without_delay(shared: WebChild) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", shared.port, timeout=DEADLINE_S)
    times = []
    for _ in range(30):
        start = time.monotonic()
        connection.request("GET", "/health")
        connection.getresponse().read()
        times.append(time.monotonic() - start)
    connection.close()
    assert statistics.median(times) < 0.02


def test_two_hundred_slow_clients_do_not_slow_health(web: WebChild) -> None:
    slow = []
    try:
        for number in range(200):
            sock = socket.create_connection(("127.0.0.1", web.port), timeout=DEADLINE_S)
            sock.sendall(b"GET /health HTTP/1.1\r\nX-Slow: " if number % 2 else b"\x00garbage")
            slow.append(sock)
        times = []
        for _ in range(30):
            start = time.monotonic()
            assert web.request("GET", "/health")[0] == 200
            times.append(time.monotonic() - start)
        assert statistics.median(times) < 0.05
    finally:
        for sock in slow:
            sock.close()


def test_more_connections_than_the_limit_push_the_oldest_silent_one_out(web: WebChild) -> None:
    silent = []
    try:
        for _ in range(520):
            silent.append(socket.create_connection(("127.0.0.1", web.port), timeout=DEADLINE_S))
        assert web.request("GET", "/health")[0] == 200
        assert silent[0].recv(100) == b""  # it made room
    finally:
        for sock in silent:
            sock.close()


def test_a_connection_that_asked_lately_stays_however_old_it_is(web: WebChild) -> None:
    old = http.client.HTTPConnection("127.0.0.1", web.port, timeout=DEADLINE_S)
    silent = []

    def more(n: int) -> None:
        for _ in range(n):
            silent.append(socket.create_connection(("127.0.0.1", web.port), timeout=DEADLINE_S))
        assert web.request("GET", "/health")[0] == 200  # all before it are accepted

    def ask() -> int:
        old.request("GET", "/health")
        answer = old.getresponse()
        answer.read()
        return answer.status

    try:
        old.connect()
        old.auto_open = 0
        more(500)
        assert ask() == 200
        more(20)
        assert silent[0].recv(100) == b""
        assert ask() == 200
    finally:
        for sock in (old, *silent):
            sock.close()
