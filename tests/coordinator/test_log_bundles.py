"""Collecting a worker's logs: what a coordinator takes from it, and what not (C55)."""

import base64

import gevent
import pytest

from kici.contracts.wire.peer.fleet import PeerLogsCollectChunk, PeerLogsCollectError
from kici.coordinator import log_bundles
from kici.coordinator.log_bundles import LogBundles, NotCollected
from kici.coordinator.registry import Registry
from tests.coordinator.world import FakeLink

WAIT_S = 5.0


class World:
    def __init__(self, tmp_path):
        self.registry = Registry()
        self.links = {name: FakeLink() for name in ("w1", "w2")}
        for name, link in self.links.items():
            self.registry.joined(name, link, "1.0", 0.0)
        self.bundles = LogBundles(self.registry, str(tmp_path))

    def collect(self, peer="w1", hours=4.0, agent_ids=None):
        asked = gevent.spawn(self.bundles.collect, peer, hours, agent_ids)
        asked.link_exception(lambda _failed: None)
        gevent.sleep(0)
        return asked

    def chunk(self, asked_of, seq, data, *, last=False, link=None):
        (request,) = self.links[asked_of].said
        message = PeerLogsCollectChunk(
            message_id=request["messageId"],
            seq=seq,
            is_last=last,
            data_b64=base64.b64encode(data).decode(),
        )
        self.bundles.heard(link or self.links[asked_of], message)


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    assert made.bundles._running == {}
    assert list(tmp_path.iterdir()) == []


def reason(asked):
    with pytest.raises(NotCollected) as failed:
        asked.get(timeout=WAIT_S)
    return failed.value.status, str(failed.value)


def test_chunks_become_the_file(world):
    asked = world.collect(hours=2.5, agent_ids=("a1",))
    (request,) = world.links["w1"].said
    assert request["type"] == "peer.logs.collect.request"
    assert (request["logWindowHours"], request["includeCoordinatorMesh"]) == (2.5, False)
    assert request["selection"]["all"] is False
    assert request["selection"]["agentIds"] == ["a1"]
    world.chunk("w1", 0, b"ab")
    world.chunk("w1", 1, b"cd", last=True)
    world.chunk("w1", 2, b"too late")
    with asked.get(timeout=WAIT_S) as file:
        assert file.read() == b"abcd"


# C55
@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ([(1, b"a")], "chunk 1"),
        ([(0, b"a"), (0, b"a")], "chunk 0"),
        ([(0, b"a"), (2, b"a")], "chunk 2"),
        ([(0, b"x" * 11)], "above 10"),
        ([(0, b"x" * 6), (1, b"x" * 6)], "above 10"),
    ],
)
def test_chunks_out_of_order_or_too_many_fail_cleanly(world, monkeypatch, pieces, why):
    monkeypatch.setattr(log_bundles, "MAX_BUNDLE_BYTES", 10)
    asked = world.collect()
    for seq, data in pieces:
        world.chunk("w1", seq, data)
    world.chunk("w1", 9, b"afterwards", last=True)
    status, text = reason(asked)
    assert (status, why in text) == (502, True)


def test_the_workers_own_error_is_passed_on(world):
    asked = world.collect()
    (request,) = world.links["w1"].said
    error = PeerLogsCollectError(message_id=request["messageId"], message="disk is full")
    world.bundles.heard(world.links["w2"], error)  # not asked
    world.bundles.heard(world.links["w1"], error)
    assert reason(asked) == (502, "the worker says: disk is full")


def test_another_workers_chunks_do_not_count(world, monkeypatch):
    monkeypatch.setattr(log_bundles, "WITHIN_S", 0.05)
    asked = world.collect()
    world.chunk("w1", 0, b"forged", last=True, link=world.links["w2"])
    assert reason(asked)[0] == 504


def test_a_worker_that_goes_fails_its_collection_and_no_other(world):
    one, two = world.collect("w1"), world.collect("w2")
    world.bundles.gone(world.links["w1"])
    assert reason(one) == (502, "the worker disconnected")
    world.chunk("w2", 0, b"", last=True)
    with two.get(timeout=WAIT_S) as file:
        assert file.read() == b""


def test_one_collection_a_worker_and_few_in_all(world, monkeypatch):
    first = world.collect()
    assert reason(world.collect())[0] == 409
    monkeypatch.setattr(log_bundles, "MAX_AT_ONCE", 1)
    assert reason(world.collect("w2"))[0] == 429
    world.chunk("w1", 0, b"x", last=True)
    first.get(timeout=WAIT_S).close()


def test_workers_that_are_not_there_are_said_so(world):
    assert reason(world.collect("nobody"))[0] == 404
    world.registry.left("w1", world.links["w1"], 0.0)
    assert reason(world.collect())[0] == 409
    world.links["w2"].open = False
    assert reason(world.collect("w2"))[0] == 502
