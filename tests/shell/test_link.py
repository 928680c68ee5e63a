"""Both ends of a link in one process: gevent on one side, or on both."""

import os
import socket

import gevent
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kici.contracts.link import JobKey
from kici.contracts.link.jobs import JobLogged, JobOffered
from kici.contracts.link.lifecycle import Hello, Ping
from kici.errors import LocalError
from kici.shell import host
from kici.shell import link as link_module
from kici.shell.link import PART_BYTES, Joiner, Link, LinkClosed, cut, new_boot_id, socketpair

KEY = JobKey(owner="ws://c/ws/peer", run_id="r", job_id="j")


@pytest.fixture
def pair():
    one, other = socketpair()
    links = [
        Link(one.detach(), name="pool", neighbour="peer", boot_id="a"),
        Link(other.detach(), name="peer", neighbour="pool", boot_id="b"),
    ]
    yield links
    for link in links:
        link.close()


def receive(link: Link):
    with gevent.Timeout(10):
        return link.receive()


@given(size=st.integers(0, 4 * PART_BYTES))
@settings(max_examples=30, deadline=None)
def test_a_message_of_any_size_is_cut_and_joined(size):
    data = bytes(size)
    parts = cut(7, data)
    joiner = Joiner()
    assert [joiner.feed(part) for part in parts] == [None] * (len(parts) - 1) + [data]


def test_half_a_message_of_a_dead_sender_is_dropped():
    joiner = Joiner()
    first, *_rest = cut(1, bytes(3 * PART_BYTES))
    assert joiner.feed(first) is None
    assert joiner.feed(cut(1, b"next")[0]) == b"next"


def test_the_rest_of_a_message_that_another_process_began_to_read_is_dropped():
    joiner = Joiner()
    _first, *rest = cut(1, bytes(3 * PART_BYTES))
    assert [joiner.feed(part) for part in rest] == [None, None]
    assert joiner.feed(cut(2, b"next")[0]) == b"next"


def test_a_message_above_the_bound_is_our_own_bug(monkeypatch):
    monkeypatch.setattr(link_module, "MAX_MESSAGE_BYTES", 10)
    with pytest.raises(LocalError):
        cut(1, bytes(11))


def test_messages_arrive_whole_and_in_order_with_who_sent_them(pair):
    pool, peer = pair
    large = JobOffered(key=KEY, message_id="m", reroute=os.urandom(5 * PART_BYTES))
    pool.send(Hello(name="pool", pid=1))
    pool.send(large)
    pool.send(Ping(number=2))
    envelopes = [receive(peer)[0] for _ in range(3)]
    assert [envelope.sender for envelope in envelopes] == ["pool"] * 3
    assert {envelope.boot_id for envelope in envelopes} == {"a"}
    assert envelopes[1].body == large
    assert envelopes[2].body == Ping(number=2)


def test_a_message_far_above_the_socket_s_buffer_does_not_block_the_other_direction(pair):
    pool, peer = pair
    pool.send(JobLogged(key=KEY, n_lines=1, frame=bytes(2**21)))
    peer.send(Ping(number=1))
    assert receive(pool)[0].body == Ping(number=1)
    assert len(receive(peer)[0].body.frame) == 2**21


def test_a_descriptor_is_passed_once_and_closed_by_the_sender(pair):
    pool, peer = pair
    reader, writer = os.pipe()
    pool.send(Ping(number=1), [writer])
    envelope, fds = receive(peer)
    assert envelope.body == Ping(number=1)
    assert len(fds) == 1
    os.write(fds[0], b"x")
    os.close(fds[0])
    assert os.read(reader, 1) == b"x"
    assert os.read(reader, 1) == b""  # no other copy of the writer is left
    os.close(reader)


def test_a_slow_neighbour_makes_the_sender_wait_and_not_grow(pair):
    pool, peer = pair
    sent = []

    def flood():
        for number in range(5000):
            pool.send(Ping(number=number))
            sent.append(number)

    flooding = gevent.spawn(flood)
    gevent.sleep(0)
    assert not pool.flush(0.2)
    assert len(sent) < 5000
    for number in range(5000):
        assert receive(peer)[0].body.number == number
    flooding.join(10)
    assert len(sent) == 5000
    assert pool.flush(5)


@pytest.mark.skipif(not link_module.host.links_report_eof(), reason="datagram links have no EOF")
def test_the_end_of_the_other_side_is_told():
    one, other = socketpair()
    link = Link(one.detach(), name="pool", neighbour="supervisor", boot_id="a")
    other.close()
    with pytest.raises(LinkClosed, match="pool-supervisor"):
        receive(link)
    link.close()


def test_sending_to_nobody_does_not_raise():
    one, other = socketpair()
    link = Link(one.detach(), name="pool", neighbour="peer", boot_id="a")
    other.close()
    for number in range(3):
        link.send(Ping(number=number))
    gevent.sleep(0)
    link.close()


def test_a_datagram_link_carries_the_same_messages(monkeypatch):
    monkeypatch.setattr(host, "is_linux", lambda: False)
    monkeypatch.setattr(link_module, "PART_BYTES", 8 * 1024)
    one, other = socketpair()
    assert one.type == socket.SOCK_DGRAM
    pool = Link(one.detach(), name="pool", neighbour="peer", boot_id="a")
    peer = Link(other.detach(), name="peer", neighbour="pool", boot_id="b")
    large = JobOffered(key=KEY, message_id="m", reroute=os.urandom(300_000))
    pool.send(large)
    assert receive(peer)[0].body == large
    pool.close()
    peer.close()


def test_boot_ids_differ():
    assert new_boot_id() != new_boot_id()
