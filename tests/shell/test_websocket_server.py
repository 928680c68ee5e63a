"""The server end over real sockets: each fault of gevent-websocket that we repair."""

import gc
import logging
import os
import time

import gevent
import gevent.socket
import pytest
from gevent.event import Event
from gevent.pywsgi import WSGIServer

from kici.shell import server_sending
from kici.shell.upgrade import upgrade_handler
from kici.shell.websocket import Disconnected
from kici.shell.websocket_server import (
    ServerConnection,
    UpgradeRefused,
    accept_passed,
    keep_alive,
    websocket_route,
)
from tests.support import raw_websocket as raw

WAIT_S = 5


@pytest.fixture
def pair():
    """A raw client and the server connection it talks to."""
    left, right = raw.connected_pair()
    client = raw.RawClient(left)
    connection = ServerConnection(right, early=b"", remote="test", max_size=1 << 20)
    yield client, connection
    connection.abort()
    client.shut()


def end_of(connection):
    try:
        while True:
            connection.receive(WAIT_S)
    except Disconnected as ended:
        return ended.code, ended.reason


# --- closing -------------------------------------------------------------------------


# A14
def test_close_sends_code_and_reason_and_takes_the_answer(pair):
    client, connection = pair
    closer = gevent.spawn(connection.close, 4010, "no \u00e9ntry", 5.0)
    assert client.closing() == (4010, "no \u00e9ntry")
    client.send(raw.close(4010))
    closer.get(timeout=WAIT_S)
    assert client.at_end()
    assert end_of(connection) == (4010, "no \u00e9ntry")


# A14
def test_a_long_close_reason_is_cut_at_a_character(pair):
    client, connection = pair
    closer = gevent.spawn(connection.close, 4003, "\u20ac" * 60, 0.1)
    assert client.closing() == (4003, "\u20ac" * 41)
    closer.get(timeout=WAIT_S)


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
def test_a_received_close_is_answered_with_its_code(pair, code):
    client, connection = pair
    client.send(raw.close(code, b"bye"))
    assert end_of(connection) == (code, "bye")
    assert client.closing() == (code, "")
    assert client.at_end()


def test_an_empty_close_is_answered_empty(pair):
    client, connection = pair
    client.send(raw.close())
    assert end_of(connection) == (1005, "")
    assert client.closing() == (None, "")


def test_close_does_not_wait_longer_than_told_for_the_answer(pair):
    client, connection = pair
    with gevent.Timeout(2):
        connection.close(1001, "", 0.05)
    assert client.closing() == (1001, "")


def test_close_ends_although_the_other_end_never_stops_talking(pair):
    client, connection = pair

    def talk():
        try:
            while True:
                client.send(raw.text("x" * 1000) * 20)
        except OSError:
            return

    talker = gevent.spawn(talk)
    with gevent.Timeout(WAIT_S):
        connection.close(1001, "", 0.1)
    talker.join(WAIT_S)
    assert talker.dead


def test_close_wakes_the_greenlet_that_reads(pair):
    client, connection = pair
    reader = gevent.spawn(end_of, connection)
    gevent.sleep(0)
    closer = gevent.spawn(connection.close, 4012, "superseded", 5.0)
    assert client.closing() == (4012, "superseded")
    client.send(raw.close(4012))
    assert reader.get(timeout=WAIT_S) == (4012, "superseded")
    closer.get(timeout=WAIT_S)


def test_abort_wakes_the_greenlet_that_reads(pair):
    client, connection = pair
    reader = gevent.spawn(end_of, connection)
    gevent.sleep(0)
    connection.abort()
    assert reader.get(timeout=WAIT_S)[0] == 1006
    assert client.at_end()


def test_a_dead_socket_is_1006_and_sending_on_it_raises(pair):
    client, connection = pair
    client.shut()
    assert end_of(connection)[0] == 1006
    with pytest.raises(Disconnected):
        connection.send_text("x")


def test_a_forgotten_connection_writes_no_close_frame():
    left, right = raw.connected_pair()
    client = raw.RawClient(left, timeout_s=0.2)
    connection = ServerConnection(right, early=b"", remote="", max_size=100)
    del connection
    gc.collect()
    right.close()
    assert client.at_end()
    client.shut()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (raw.text("x", masked=False), 1002),
        (raw.text(b"\xc3\x28"), 1007),
        (raw.text(b"x" * (1 << 20) + b"y"), 1009),
    ],
)
def test_a_broken_rule_closes_with_its_code_even_behind_unread_bytes(pair, data, code):
    client, connection = pair
    sender = gevent.spawn(client.send, data + b"\0" * 300_000)
    reader = gevent.spawn(end_of, connection)
    assert client.closing()[0] == code
    client.shut()
    assert reader.get(timeout=WAIT_S)[0] == code
    sender.kill()


# --- messages ------------------------------------------------------------------------


def test_messages_come_and_go_in_order(pair):
    client, connection = pair
    client.send(b"".join(raw.text(str(n)) for n in range(200)))
    assert [connection.receive(WAIT_S) for _ in range(200)] == [str(n) for n in range(200)]
    for n in range(200):
        connection.send_text(str(n))
    assert [client.frame() for _ in range(200)] == [(1, str(n).encode()) for n in range(200)]


def test_binary_is_bytes_and_text_is_str(pair):
    client, connection = pair
    client.send(raw.frame(2, b'{"a":1}') + raw.text("\u00e9"))
    assert connection.receive(WAIT_S) == b'{"a":1}'
    assert connection.receive(WAIT_S) == "\u00e9"


def test_receive_times_out_without_losing_half_a_frame(pair):
    client, connection = pair
    whole = raw.text("x" * 500)
    client.send(whole[:100])
    with pytest.raises(TimeoutError):
        connection.receive(0.05)
    client.send(whole[100:])
    assert connection.receive(WAIT_S) == "x" * 500


def test_two_greenlets_send_large_messages_without_mixing_them(pair):
    client, connection = pair
    senders = [gevent.spawn(connection.send_text, letter * 3_000_000) for letter in ("a", "b", "c")]
    seen = [client.frame()[1] for _ in senders]
    gevent.joinall(senders, timeout=WAIT_S, raise_error=True)
    assert sorted(payload[:1] * len(payload) for payload in seen) == sorted(seen)
    assert {len(payload) for payload in seen} == {3_000_000}


def test_a_peer_that_takes_nothing_is_cut_off(pair, monkeypatch):
    _client, connection = pair
    monkeypatch.setattr(server_sending, "WRITE_TIMEOUT_S", 0.1)
    with pytest.raises(Disconnected) as caught:
        connection.send_text("x" * 20_000_000)
    assert caught.value.code == 1006
    assert connection.closed


def test_a_large_frame_on_a_slow_line_has_its_time(pair, monkeypatch):
    client, connection = pair
    monkeypatch.setattr(server_sending, "WRITE_TIMEOUT_S", 0.3)
    size = 20 * server_sending._SLICE_BYTES
    began = time.monotonic()
    sender = gevent.spawn(connection.send_text, "x" * size)
    left = size + 10  # and the head of the frame
    while left:
        left -= len(client._exactly(min(left, 200_000)))
        gevent.sleep(0.03)
    sender.get(timeout=WAIT_S)
    assert time.monotonic() - began > 2 * server_sending.WRITE_TIMEOUT_S
    assert not connection.closed


def test_a_send_that_is_killed_half_way_ends_the_connection(pair):
    client, connection = pair
    sender = gevent.spawn(connection.send_text, "x" * 20_000_000)
    client.frame_head = client._exactly(10)
    sender.kill()
    with pytest.raises(Disconnected):
        connection.send_text("next")


def test_a_flood_of_ready_messages_lets_others_run(pair):
    client, connection = pair
    gevent.spawn(client.send, raw.text("x" * 2000, mask=b"\0\0\0\0") * 3000)
    turns = []

    def other():
        while True:
            turns.append(1)
            gevent.sleep(0)

    bystander = gevent.spawn(other)
    for _ in range(3000):
        connection.receive(WAIT_S)
    bystander.kill()
    assert len(turns) > 5


# --- pings ---------------------------------------------------------------------------


def test_a_ping_is_answered_with_its_payload(pair):
    client, connection = pair
    client.send(raw.frame(9, b"are you there"))
    with pytest.raises(TimeoutError):
        connection.receive(0.05)
    assert client.frame() == (10, b"are you there")


def test_a_ping_during_a_long_write_is_answered_after_it(pair):
    client, connection = pair
    sender = gevent.spawn(connection.send_text, "x" * 8_000_000)
    reader = gevent.spawn(connection.receive, WAIT_S)
    gevent.sleep(0)
    client.send(raw.frame(9, b"p") + raw.text("m"))
    assert reader.get(timeout=WAIT_S) == "m"  # the reader did not wait for the writer
    assert not sender.dead
    assert client.frame()[0] == 1
    assert client.frame() == (10, b"p")
    sender.get(timeout=WAIT_S)


def test_keep_alive_pings_a_silent_peer_and_keeps_one_that_answers(pair):
    client, connection = pair
    keeper = gevent.spawn(keep_alive, connection, 0.05, 0.3)
    reader = gevent.spawn(end_of, connection)
    for _ in range(10):  # about half a second in all, longer than the limit
        assert client.frame() == (9, b"")
        client.send(raw.frame(10))
    assert not connection.closed
    connection.abort()
    keeper.get(timeout=WAIT_S)
    reader.get(timeout=WAIT_S)


def test_keep_alive_cuts_off_a_peer_that_does_not_answer(pair):
    _client, connection = pair
    keeper = gevent.spawn(keep_alive, connection, 0.05, 0.2)
    assert end_of(connection)[0] == 1006
    keeper.get(timeout=WAIT_S)


def test_a_paused_reader_is_not_silence(pair):
    client, connection = pair
    connection.pause()
    client.send(raw.text("held"))
    reader = gevent.spawn(connection.receive)
    keeper = gevent.spawn(keep_alive, connection, 0.02, 0.1)
    gevent.sleep(0.3)
    assert not reader.dead
    assert not connection.closed
    connection.resume()
    assert reader.get(timeout=WAIT_S) == "held"
    connection.abort()
    keeper.get(timeout=WAIT_S)


def test_pause_lets_tcp_slow_the_sender_down(pair):
    client, connection = pair
    connection.pause()
    reader = gevent.spawn(connection.receive)
    sender = gevent.spawn(client.send, raw.text("x" * 900_000, mask=b"\0\0\0\0") * 40)
    gevent.sleep(0.2)
    assert not sender.dead
    connection.resume()
    assert len(reader.get(timeout=WAIT_S)) == 900_000
    for _ in range(39):
        connection.receive(WAIT_S)
    sender.get(timeout=WAIT_S)


# --- accepting -----------------------------------------------------------------------


def test_a_passed_descriptor_is_accepted_with_its_early_bytes():
    left, right = raw.connected_pair()
    client = raw.RawClient(left)
    headers = [
        tuple(line.split(": ", 1)) for line in raw.upgrade_request().decode().split("\r\n")[1:-2]
    ]
    connection = accept_passed(right.detach(), headers, "/ws", raw.text("early"), remote="r:1")
    head = client.head()
    assert head.startswith("HTTP/1.1 101 Switching Protocols\r\n")
    assert f"Sec-WebSocket-Accept: {raw.ACCEPT}" in head
    assert connection.receive(WAIT_S) == "early"
    client.send(raw.text("late"))
    assert connection.receive(WAIT_S) == "late"
    connection.abort()
    client.shut()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-WebSocket-Key": "%%%"}, "400"),
        ({"Sec-WebSocket-Key": "c2hvcnQ="}, "400"),
        ({"Sec-WebSocket-Key": ""}, "400"),
        ({"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25j\u00e9=="}, "400"),
        ({"Sec-WebSocket-Version": "8"}, "426"),
        ({"Upgrade": "h2c"}, "426"),
        ({"Connection": "keep-alive"}, "400"),
    ],
)
def test_a_bad_upgrade_is_answered_and_closed(headers, status):
    left, right = raw.connected_pair()
    client = raw.RawClient(left)
    sound = {
        "upgrade": "WebSocket",
        "connection": "upgrade",
        "sec-websocket-version": "13",
        "sec-websocket-key": raw.KEY,
    }
    sound.update({name.lower(): value for name, value in headers.items()})
    with pytest.raises(UpgradeRefused):
        accept_passed(right.detach(), list(sound.items()), "/ws", b"")
    assert client.head().split()[1] == status
    client._exactly(len(client.buffer))
    client.shut()


def test_a_descriptor_that_is_no_socket_is_closed_and_reported(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(OSError):
        accept_passed(fd, [], "/ws", b"")
    with pytest.raises(OSError):
        os.fstat(fd)


# --- beside WSGI ---------------------------------------------------------------------


def hello(_environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"plain"]


@pytest.fixture
def served():
    """A pywsgi server with one WebSocket path that echoes, beside a plain application."""
    ended = Event()

    def echo(connection, upgrade):
        try:
            connection.send_text(upgrade.path)
            while True:
                message = connection.receive(WAIT_S)
                if message == "return":
                    return
                if message == "raise":
                    raise ValueError("a route's own bug")
                connection.send_text(message)
        except Disconnected:
            pass
        finally:
            ended.set()

    handler = upgrade_handler({"/ws/peer": websocket_route(echo, max_size=1 << 20)})
    server = WSGIServer(("127.0.0.1", 0), hello, handler_class=handler, log=None, error_log=None)
    server.start()
    yield server.address, ended
    server.stop(timeout=1)


def test_one_path_is_a_websocket_and_the_rest_is_plain(served, caplog):
    caplog.set_level(logging.DEBUG)
    address, _ended = served
    client = raw.RawClient.dial(address)
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.head().startswith("HTTP/1.1 200 ")
    client._exactly(5)
    # The same kept-alive connection may still turn into a WebSocket.
    client.upgrade("/ws/peer?x=1")
    assert client.frame() == (1, b"/ws/peer")
    client.send(raw.text("hi"))
    assert client.frame() == (1, b"hi")
    client.send(raw.close(1000))
    assert client.closing() == (1000, "")
    assert client.at_end()
    client.shut()
    assert not caplog.records  # the original logs every plain request


def test_an_upgrade_elsewhere_reaches_the_application(served):
    address, _ended = served
    client = raw.RawClient.dial(address)
    client.send(raw.upgrade_request("/other"))
    assert client.head().startswith("HTTP/1.1 200 ")
    client.shut()


def test_frames_sent_with_the_request_are_not_lost(served):
    address, _ended = served
    client = raw.RawClient.dial(address)
    client.send(raw.upgrade_request("/ws/peer") + raw.text("early"))
    client.head()
    assert client.frame() == (1, b"/ws/peer")
    assert client.frame() == (1, b"early")
    client.shut()


def test_a_bad_key_is_answered_400_by_the_server(served):
    address, _ended = served
    client = raw.RawClient.dial(address)
    client.send(raw.upgrade_request("/ws/peer", key="not base64!"))
    assert client.head().startswith("HTTP/1.1 400 ")
    client.shut()


def test_a_route_that_returns_says_goodbye(served):
    address, ended = served
    client = raw.RawClient.dial(address)
    client.upgrade("/ws/peer")
    client.frame()
    client.send(raw.text("return"))
    assert client.closing() == (1000, "")
    client.send(raw.close(1000))
    assert client.at_end()
    assert ended.wait(WAIT_S)
    client.shut()


def test_a_route_that_fails_closes_without_http_in_the_stream(served, capsys):
    address, _ended = served
    client = raw.RawClient.dial(address)
    client.upgrade("/ws/peer")
    client.frame()
    client.send(raw.text("raise"))
    assert client.closing()[0] == 1011
    client.send(raw.close(1011))
    assert client.at_end()
    client.shut()
    assert "a route's own bug" in capsys.readouterr().err
