"""The supervisor's end of a control link against a plain socket."""

import socket

import pytest

from kici.contracts.link.envelope import pack, unpack
from kici.contracts.link.lifecycle import ChildFailed, Leave, Ping, Pong
from kici.shell.control import QUEUE_LENGTH, ControlLink
from kici.shell.link import PART_BYTES, Joiner, cut, socketpair


@pytest.fixture
def ends():
    """A control link, the other end, and what the link heard."""
    end, other = socketpair()
    other.settimeout(5)
    heard = []
    control = ControlLink(end, neighbour="pool", boot_id="boot", on_message=heard.append)
    yield control, other, heard
    control.close()
    other.close()


def read(other: socket.socket):
    joiner = Joiner()
    while True:
        whole = joiner.feed(other.recv(PART_BYTES + 8))
        if whole is not None:
            return unpack(whole)


def test_a_message_is_written_at_once(ends):
    control, other, _heard = ends
    assert control.send(Leave(within_s=1.0))
    assert not control.writable()
    envelope = read(other)
    assert (envelope.sender, envelope.boot_id) == ("supervisor", "boot")
    assert envelope.body == Leave(within_s=1.0)


def test_what_arrived_is_handed_on_in_order_in_one_turn(ends):
    control, other, heard = ends
    for number in range(3):
        other.send(cut(number, pack("pool", "b", Pong(number=number)))[0])
    control.handle_read_event()
    assert [envelope.body.number for envelope in heard] == [0, 1, 2]


def test_a_large_message_is_joined(ends):
    control, other, heard = ends
    failed = ChildFailed(name="pool", reason="x" * (PART_BYTES + 1))
    other.setblocking(True)  # with a time-out Python asks for a writable socket first
    for part in cut(1, pack("pool", "b", failed)):
        other.send(part)
    control.handle_read_event()
    assert heard[0].body == failed


def test_a_child_that_does_not_read_bounds_the_queue_and_never_blocks(ends):
    control, other, _heard = ends
    number = 0
    while control.send(Ping(number=number)):
        number += 1
        assert number < 100_000
    assert control.n_dropped == 1
    assert control.writable()
    assert number > QUEUE_LENGTH
    for expected in range(number):
        assert read(other).body.number == expected
        control.handle_write_event()
    assert not control.writable()


def test_a_dead_child_closes_the_link_without_an_exception(ends):
    control, other, _heard = ends
    other.close()
    assert control.send(Ping(number=1)) in (True, False)
    control.handle_read_event()
    assert control.closed
    assert not control.readable()
    assert not control.send(Ping(number=2))


def test_last_words_are_heard_after_the_death(ends):
    control, other, heard = ends
    other.send(cut(1, pack("pool", "b", ChildFailed(name="pool", reason="why")))[0])
    other.close()
    control.send(Ping(number=1))  # EPIPE is noticed first
    control.handle_read_event()
    assert heard[0].body.reason == "why"


@pytest.mark.parametrize("garbage", [b"x", b"\0" * 7, cut(1, b"no msgpack \xff")[0]])
def test_garbage_is_logged_and_survived(ends, garbage, caplog):
    control, other, heard = ends
    other.send(garbage)
    other.send(cut(2, pack("pool", "b", Pong(number=2)))[0])
    control.handle_read_event()
    assert [envelope.body.number for envelope in heard] == [2]
    assert "not understood" in caplog.text
