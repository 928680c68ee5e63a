"""Heartbeats as the acceptor reads them (peer spec 4.4)."""

import json

import msgspec
import pytest

from kici.contracts.wire.peer.heartbeat import HeartbeatReceived
from kici.protocol.inventory import MAX_ENTRIES, MAX_SLOTS, read_inventory
from tests.support.dialer import Dialer, agent


def heard(agents=(), backends=None, **more):
    beat = Dialer().heartbeat(agents, backends, **more)
    return msgspec.json.decode(json.dumps(beat), type=HeartbeatReceived)


# C29
def test_malformed_entry_hides_no_good_one():
    bad = {"name": "b", "labelSets": "linux", "maxAgents": 1, "activeCount": 0}
    found = read_inventory(heard([agent("a"), {"agentId": 1}, agent("b")], [bad]))
    assert [one.agent_id for one in found.agents] == ["a", "b"]
    assert found.rejected == 2


# C28
def test_either_gate_form_and_unknown_or_missing_fields_are_read():
    base = {"labelSets": [["Linux "], ["linux", "gpu"]], "maxAgents": 4, "activeCount": 1}
    old = read_inventory(heard([], [base | {"mandatoryLabels": ["GPU"], "odd": 1}]))
    new = read_inventory(heard([], [base | {"labelSetMandatoryLabels": [[], ["gpu"]]}]))
    assert [sorted(one.gate) for one in old.backends[0].sets] == [["gpu"], ["gpu"]]
    assert [sorted(one.gate) for one in new.backends[0].sets] == [[], ["gpu"]]
    assert new.backends[0].sets[0].labels == {"linux"}
    assert new.backends[0].free == 3
    assert read_inventory(heard([], None)).backends == ()
    bare = {key: agent()[key] for key in ("agentId", "labels", "activeJobs", "maxConcurrency")}
    assert read_inventory(heard([bare])).agents[0].free == 1


def test_gates_that_do_not_fit_the_label_sets_serve_nothing():
    entry = {"labelSets": [["a"], ["b"]], "maxAgents": 1, "activeCount": 0}
    found = read_inventory(heard([], [entry | {"labelSetMandatoryLabels": [[]]}]))
    assert found.backends[0].sets == ()


def test_numbers_may_be_fractions_or_negative_and_never_make_negative_slots():
    assert read_inventory(heard([agent(free=-3, active=2)])).agents[0].free == 0
    assert read_inventory(heard([agent() | {"maxConcurrency": 2.5}])).agents[0].free == 2


def test_entries_beyond_the_bound_are_not_read():
    found = read_inventory(heard([agent(str(n)) for n in range(MAX_ENTRIES + 5)]))
    assert len(found.agents) == MAX_ENTRIES
    assert found.rejected == 5


def test_labels_that_many_peers_share_are_kept_once_and_huge_ones_not_at_all():
    one, other = (read_inventory(heard([agent("a")])).agents[0] for _ in range(2))
    assert one.labels is other.labels
    huge = [f"label-{number}" for number in range(1000)]
    many = [read_inventory(heard([agent("a") | {"labels": huge}])).agents[0] for _ in range(2)]
    assert many[0].labels == many[1].labels
    assert many[0].labels is not many[1].labels


# C29
@pytest.mark.parametrize(
    ("most", "taken", "free"),
    [
        (1e308, -1e308, MAX_SLOTS),
        (10**400, 1.5, MAX_SLOTS - 2),
        (-(10**400), 1.5, 0),
        (1.5, 10**400, 0),
        (-(10**400), 10**400, 0),
        (10**400, 10**400, 0),
    ],
    ids=range(6),
)
def test_absurd_numbers_are_cut_to_what_can_be_counted(most, taken, free):
    entry = {"labelSets": [["a"]], "maxAgents": most, "activeCount": taken}
    odd = agent() | {"maxConcurrency": most, "activeJobs": taken}
    found = read_inventory(heard([odd, agent("good")], [entry]))
    assert [one.free for one in (*found.agents, *found.backends)] == [free, 1, free]


# C29
def test_deeply_nested_entry_hides_no_good_one():
    deep = msgspec.Raw(b'{"odd":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    good = msgspec.Raw(json.dumps(agent("a")).encode())
    found = read_inventory(HeartbeatReceived(instance_id="w", agents=(deep, good)))
    assert [one.agent_id for one in found.agents] == ["a"]
    assert found.rejected == 1


def test_bytes_beyond_the_bound_are_not_read():
    huge = agent("huge", labels=["x" * 3_000_000])
    found = read_inventory(heard([agent("a"), *[huge] * 9, agent("z")]))
    assert [one.agent_id for one in found.agents] == ["a", "huge", "huge"]
    assert found.rejected == 8
