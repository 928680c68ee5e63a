"""Which worker is offered a job, and what its answer does (C31-C42, C62, C63)."""

import pytest

from kici.coordinator.job import ACK_TIMEOUT_S
from tests.coordinator.world import World, native


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path / "data")
    yield made
    made.store.close()


def backend(free=1, labels=("linux", "runtime:native"), gate=(), name="pool"):
    return {
        "name": name, "type": "container", "labelSets": [list(labels)], "maxAgents": free,
        "activeCount": 0, "labelSetMandatoryLabels": [list(gate)],
    }  # fmt: skip


# C35, C62
def test_offer_holds_every_required_field_and_no_null_in_optional_ones(world):
    world.connect("w1", native())
    job = world.submit(env={"A": "1"}, timeout="90s")
    reroute = world.offer("w1")
    assert "action" in reroute
    assert reroute["action"] is None
    assert [key for key, value in reroute.items() if value is None] == ["action"]
    assert reroute["triedConnections"] == ["coord-1"]
    assert reroute["coordinatorId"] == "coord-1"
    assert reroute["jobId"] == job.job_id
    assert reroute["runsOnLabels"] == [["linux", "runtime:native"]]
    assert reroute["maxHops"] == 3
    assert reroute["payload"] == {}
    assert reroute["jobConfig"]["jobEnv"] == {"A": "1"}
    assert reroute["jobConfig"]["timeout"] == 90_000


# C32
@pytest.mark.parametrize(
    ("capacity", "wanted", "fits"),
    [
        ({"agents": [native()]}, {}, True),
        ({"agents": [native(free=0, active=2)]}, {}, False),
        ({"agents": [native(labels=("LINUX ", "Extra"))]}, {"runs-on": [" Linux"]}, True),
        ({"agents": [native(gate=["gpu"])]}, {}, False),
        ({"agents": [native(labels=("linux", "gpu"), gate=["GPU"])]}, {"runs-on": "gpu"}, True),
        ({"backends": [backend()]}, {}, True),
        ({"backends": [backend(free=0)]}, {}, False),
        ({"backends": [backend() | {"labelSets": [], "labelSetMandatoryLabels": []}]}, {}, False),
        ({"backends": [backend(gate=["gpu"])]}, {}, False),
        ({"agents": [native()], "draining": True}, {}, False),
    ],
)
def test_peer_is_eligible_when_labels_gates_and_capacity_fit(world, capacity, wanted, fits):
    agents, backends = capacity.get("agents", []), capacity.get("backends")
    draining = capacity.get("draining", False)
    link = world.connect("w1", *agents, backends=backends, draining=draining)
    world.submit(**wanted)
    assert bool(link.take("job.reroute")) is fits


# C33
@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        ({"exclude": ["ARM"]}, False),
        ({"exclude": ["gpu"]}, True),
        ({"runs-on-patterns": ["^zone-[ab]$"]}, True),
        ({"runs-on-patterns": ["^zone-[cd]$"]}, False),
        ({"exclude-patterns": ["^zone-"]}, False),
    ],
)
def test_patterns_and_exclusions_are_evaluated(world, wanted, fits):
    link = world.connect("w1", native(labels=("linux", "arm", "zone-a")))
    world.submit(**wanted)
    assert bool(link.take("job.reroute")) is fits


# C34
def test_peers_are_ordered_by_free_agent_slots_then_by_backends(world):
    world.connect("small", native())
    world.connect("pools", backends=[backend(free=50)])
    world.connect("big", native(free=3))
    holders = [world.submit().holder for _ in range(6)]
    assert holders[:2] == ["big", "big"]
    assert sorted(holders[2:4]) == ["big", "small"]
    assert holders[4:] == ["pools", "pools"]


# C36, C38: same id for the next candidate; the first is told to drop it, at once and when it
# accepts too late.
def test_silent_peer_loses_the_job_to_the_next_candidate(world):
    slow = world.connect("slow", native(free=2))
    world.connect("next", native())
    job = world.submit()
    late = world.offer("slow")
    world.pass_time(ACK_TIMEOUT_S - 1)
    assert world.links["next"].said == []
    world.pass_time(1)
    offer = world.accepted("next")
    assert offer["jobId"] == late["jobId"] == job.job_id
    assert offer["messageId"] != late["messageId"]
    assert offer["triedConnections"] == ["coord-1", "slow"]
    assert len(slow.take("peer.job.cancel")) == 1
    world.ack("slow", late)
    assert [order["jobId"] for order in slow.take("peer.job.cancel")] == [job.job_id]
    assert world.rows.shown(job.job_id)["holder"] == "next"


# C38
def test_peer_that_may_have_the_job_never_gets_it_again_even_after_a_restart(world):
    world.connect("w1", native(free=2))
    job = world.submit()
    world.offer("w1")
    world.pass_time(ACK_TIMEOUT_S + 70)
    assert world.links["w1"].take("job.reroute") == []
    world.restart(crash=False)
    link = world.connect("w1", native(free=2))
    world.pass_time(70)
    assert link.take("job.reroute") == []
    world.connect("w2", native())
    assert world.offer("w2")["jobId"] == job.job_id


# C37
def test_refusals_back_off_up_to_a_minute_and_an_acceptance_clears_them(world):
    world.connect("w1", native())
    world.submit()
    for delay in (2, 4, 8, 16, 32, 60, 60):
        world.ack("w1", world.offer("w1"), accepted=False, reason="At capacity")
        world.pass_time(delay - 1)
        assert world.links["w1"].take("job.reroute") == []
        world.pass_time(1)
    world.accepted("w1")
    assert world.registry.get("w1").n_naks == 0


# C40
def test_job_that_nobody_can_take_waits_with_the_reason_and_fails_after_an_hour(world):
    job = world.submit()
    assert job.why == "No orchestrator in cluster handles labels: linux,runtime:native"
    world.connect("w1", native(free=0, active=1))
    world.pass_time(1)
    assert job.why == "Peers with matching labels exist but are at capacity"
    world.now += 3599
    world.pass_time(1)
    assert world.state(job) == "failed"
    assert "at capacity" in world.rows.shown(job.job_id)["reason"]


# C41
def test_ten_jobs_at_once_are_not_all_sent_to_one_peer_with_two_slots(world):
    world.connect("w1", native(free=2))
    jobs = [world.submit() for _ in range(10)]
    offers = world.links["w1"].take("job.reroute")
    assert len(offers) == 2
    for offer in offers:
        world.ack("w1", offer)
    world.beat("w1", native(free=2))  # sent before the worker had counted them
    assert world.links["w1"].take("job.reroute") == []
    world.now += 2
    world.beat("w1", native(free=0, active=2))
    world.report("w1", offers[0], "success")
    world.beat("w1", native(free=1, active=1))
    assert world.offer("w1")["jobId"] == jobs[2].job_id


# C63
def test_waiting_job_goes_to_the_peer_that_connects_or_becomes_free(world):
    first, second = world.submit(), world.submit()
    world.connect("w1", native())
    reroute = world.accepted("w1")
    assert reroute["jobId"] == first.job_id
    world.report("w1", reroute, "success")
    world.beat("w1", native())
    assert world.offer("w1")["jobId"] == second.job_id


def test_peer_that_reconnects_before_it_answered_is_asked_again_for_the_same_job(world):
    world.connect("w1", native())
    job = world.submit()
    world.offer("w1")
    world.disconnect("w1")
    world.pass_time(3)
    world.connect("w1", native())
    assert world.accepted("w1")["jobId"] == job.job_id
    assert world.state(job) == "accepted"


def test_answer_from_another_peer_than_the_one_asked_counts_for_nothing(world):
    world.connect("w1", native())
    world.connect("w2")
    job = world.submit()
    reroute = world.offer("w1")
    world.ack("w2", reroute, accepted=False)
    assert job.holder == "w1"


def test_connection_that_dies_while_offering_leaves_the_job_to_others(world):
    world.connect("dead", native(free=5)).open = False
    world.connect("w1", native())
    job = world.submit()
    assert job.holder == "w1"
    assert world.rows.shown(job.job_id)["holder"] == "w1"
