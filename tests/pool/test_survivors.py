"""A new pool finds jobs and agents of the one before it, which have not said yet what they do."""

import msgspec
import pytest

from kici.config.model import ResourceCap, Resources, ResourceSpec, ScalerConfig
from kici.contracts.link.jobs import (
    JobAccepted,
    JobDeclined,
    JobDispatched,
    JobOffered,
    OpenJob,
    OutboxState,
)
from kici.pool.events import AgentsFound, AgentsSought, ScalersChanged
from kici.pool.scalers.base import FoundAgent
from tests.support.pool_world import World, key, label_set, reroute, scaler


# A76
def test_job_offered_again_waits_for_agents_that_come_back_by_themselves():
    world = World(outbox=False)
    world.outbox(key())
    world.offer(again=True)
    assert not world.finished()
    world.wait(5)
    world.register()
    assert len(world.dispatches()) == 1


# A72
@pytest.mark.parametrize("say", ["ack", "running", "cancelling"])
def test_a_job_that_was_cancelled_on_its_way_is_not_offered_to_the_next_pool(say):
    world = World()
    world.register()
    world.offer()
    world.cancel()
    if say == "ack":
        world.ack()
    else:
        world.status(say)
    assert JobDispatched(key=key()) in world.told["peer"]


# S55
def test_an_agent_that_comes_before_its_backend_counts_with_what_it_takes():
    two = ResourceSpec(cpus=2.0)
    sets = label_set("linux", resources=Resources(requests=two))
    capped = scaler("s1", sets, max_agents=5, resource_cap=ResourceCap(max_cpu=2.0))
    world = World(capped, outbox=False, outsiders=False)
    world.do(AgentsSought(["s1"]))
    world.outbox(key("j0"))
    labels = ("linux", "kici:agent:fake", "kici:scaler:s1")
    world.register("scaler-fake-1", labels, jobs=[("r1", "j0")])
    found = FoundAgent(
        agent_id="scaler-fake-1", job_id="j0", run_id="r1", label_set_labels=("linux",)
    )
    world.do(AgentsFound("s1", [found]))
    world.offer("j1")
    assert not world.launched


def warm_from_before(world):
    """An agent of a warm pool that the backend found and that has said nothing yet."""
    found = FoundAgent(agent_id="w1", job_id=None, run_id=None, label_set_labels=("linux",))
    world.do(AgentsFound("s1", [found]))


def test_an_agent_that_has_not_said_what_it_runs_is_promised_no_job_and_outlives_a_reload():
    sets = label_set("linux")
    world = World(scaler("s1", sets), outsiders=False)
    warm_from_before(world)
    world.offer("j1")
    assert len(world.launched) == 1
    changed = scaler("s1", label_set("linux", "new"))
    world.do(ScalersChanged(ScalerConfig(scalers=(changed,))))
    assert [one.agent_id for one in world.reaped] == []


def test_a_lost_job_whose_agent_turns_out_to_be_ours_and_ends_is_failed():
    world = World(scaler(), outbox=False)
    world.register("x1")
    world.offer()
    world.ack("x1")
    world.lose("x1")
    found = FoundAgent(agent_id="x1", job_id=None, run_id=None, label_set_labels=("linux",))
    world.do(AgentsFound("s1", [found]))
    world.backend("x1", "exited", "exit code 1")
    assert [one.state for one in world.finished()] == ["failed"]


# P60
def test_what_lay_in_the_socket_for_the_pool_before_is_left_to_be_said_anew():
    """An agent that comes back with its job would be told that nobody knows it."""
    world = World(outbox=False)
    world.core.board.boot_id = "boot-2"
    world.register("a1", jobs=[("r1", "j1")])
    old = OutboxState(rev=1, open=(), n_concluded=0, n_bytes=0, oldest_at=None, pool="boot-1")
    world.do(old)
    world.do(JobOffered(key=key(), message_id="m", reroute=reroute(), pool="boot-1"))
    assert not world.cancels()
    assert not world.answers()
    told = (OpenJob(key=key(), accepted_at=1.0),)
    world.do(msgspec.structs.replace(old, open=told, pool="boot-2"))
    world.end()
    assert [one.state for one in world.finished()] == ["success"]


def test_the_death_of_agents_from_before_blames_no_label_set():
    world = World(scaler(max_agents=20), outsiders=False)
    dead = [
        FoundAgent(agent_id=f"w{n}", job_id=None, run_id=None, label_set_labels=("linux",))
        for n in range(6)
    ]
    world.do(AgentsFound("s1", dead))
    for one in dead:
        world.backend(one.agent_id, "exited", "it is gone")
    world.offer("j1")
    assert len(world.launched) == 1


def test_a_job_that_is_being_withdrawn_is_not_taken_when_it_is_offered_anew():
    """The peer that refused it is dead: its successor would report the withdrawal as the end."""
    world = World()
    world.register()
    world.offer()
    world.run()
    world.cancel(reason="The offer was refused", withdrawn=True)
    world.offer()
    assert [type(one) for one in world.answers()] == [JobAccepted, JobDeclined]
    world.end("cancelled")
    world.offer()
    assert isinstance(world.answers()[-1], JobDeclined)
    world.store()
    world.offer()
    assert isinstance(world.answers()[-1], JobAccepted)
