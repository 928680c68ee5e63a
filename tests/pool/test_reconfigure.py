"""A reload: limits at once, removed scalers retire, running jobs are never touched."""

from kici.config.model import ResourceCap, Resources, ResourceSpec, WarmPool
from kici.contracts.link.jobs import JobAccepted, JobDeclined
from kici.contracts.states import AgentState, JobState
from kici.pool.events import AgentsFound, ScalersChanged
from kici.pool.scalers.base import FoundAgent
from kici.pool.seam import TokenGrant
from tests.support.pool_world import World, config, label_set, scaler

MAC = label_set("mac")
LINUX = label_set("linux")


def reload(world, *scalers, **more):
    world.do(ScalersChanged(config(*scalers, **more).scalers))


def busy(world, job, labels=("linux",)):
    world.offer(job, labels=labels)
    agent = world.arrive(labels=(*labels, "kici:agent:fake"))
    world.run(agent, job)
    return agent


def test_a_removed_scaler_takes_no_more_work_and_its_job_goes_on():
    world = World(scaler("s1"))
    agent = busy(world, "j1")
    reload(world, scaler("s2", MAC))
    assert world.reaped == []
    world.offer("j2")
    assert isinstance(world.answers()[-1], JobDeclined)
    world.end(agent=agent)
    world.store()
    assert world.finished("j1")
    assert [one.agent_id for one in world.reaped] == [agent]


def test_an_agent_on_its_way_for_a_job_still_gets_it_after_its_scaler_is_removed():
    world = World(scaler("s1"))
    world.offer()
    reload(world)
    agent = world.arrive()
    assert [where for where, _ in world.dispatches()] == [f"c-{agent}"]


def test_a_queued_job_whose_scaler_is_removed_fails_at_once_and_says_why():
    world = World(scaler("s1", max_agents=1))
    busy(world, "j1")
    world.offer("j2")
    reload(world, scaler("s2", MAC))
    assert world.states("j2") == ["failed"]
    assert "was removed" in world.error("j2")
    assert world.job("j1").state is JobState.RUNNING


def test_a_queued_job_that_another_scaler_can_serve_goes_there():
    world = World(scaler("s1", max_agents=1))
    busy(world, "j1")
    world.offer("j2")
    reload(world, scaler("s2", label_set("linux", "big")))
    assert world.finished("j2") == []
    assert world.launched[-1].scaler == "s2"


def test_a_queued_job_that_a_static_agent_can_serve_waits_for_it():
    world = World(scaler("s1", max_agents=1))
    busy(world, "j1")
    world.offer("j2")
    world.register("by-hand", grant=TokenGrant(token_id="t", kind="static"))
    world.offer("j3")
    reload(world, scaler("s2", MAC))
    assert world.finished() == []
    world.run("by-hand", "j2")
    world.end(agent="by-hand", job="j2")
    assert [one.key.job_id for one in world.finished()] == ["j2"]
    assert world.job("j3").agent_id == "by-hand"


def test_a_job_whose_agent_fails_after_its_scaler_was_removed_fails_too():
    world = World(scaler("s1"))
    world.offer()
    reload(world)
    world.backend(world.launched[0].agent_id, "failed", "no such image")
    assert world.states()[-1] == "failed"
    assert "was removed" in world.error()


def test_idle_agents_of_a_removed_scaler_go_at_once():
    world = World(scaler("s1", warm_pool=WarmPool(enabled=True, size=2)))
    ready = world.arrive(0)
    reload(world, scaler("s2", MAC))
    assert {one.agent_id for one in world.reaped} == {one.agent_id for one in world.launched}
    assert world.agent(ready).state is AgentState.STOPPING


def test_a_scaler_that_comes_back_counts_the_agents_it_still_has():
    world = World(scaler("s1", max_agents=1))
    busy(world, "j1")
    reload(world)
    reload(world, scaler("s1", max_agents=1))
    world.offer("j2")
    assert len(world.launched) == 1
    assert world.job("j2").state is JobState.QUEUED


def test_a_new_scaler_serves_at_once_what_waits_nowhere_else():
    world = World(scaler("s1"))
    reload(world, scaler("s1"), scaler("s2", MAC))
    world.offer(labels=("mac",))
    assert isinstance(world.answers()[-1], JobAccepted)
    assert world.launched[-1].scaler == "s2"


def test_raised_limits_start_what_waits_and_lowered_ones_end_nothing():
    world = World(scaler("s1", max_agents=1))
    agent = busy(world, "j1")
    world.offer("j2")
    assert len(world.launched) == 1
    reload(world, scaler("s1", max_agents=2))
    assert len(world.launched) == 2
    reload(world, scaler("s1", max_agents=1))
    assert world.reaped == []
    assert world.job("j1").state is JobState.RUNNING
    world.end(agent=agent)


def test_caps_of_resources_are_applied():
    one = label_set("linux", resources=Resources(requests=ResourceSpec(cpus=1)))
    world = World(scaler("s1", one, max_agents=9, resource_cap=ResourceCap(max_cpu=1)))
    world.offer("j1")
    world.offer("j2")
    assert len(world.launched) == 1
    reload(world, scaler("s1", one, max_agents=9, resource_cap=ResourceCap(max_cpu=2)))
    assert len(world.launched) == 2


def test_agents_keep_their_label_set_when_its_number_changes():
    world = World(scaler("s1", LINUX, max_agents=4, warm_pool=WarmPool(enabled=True, size=1)))
    agent = world.arrive()
    reload(world, scaler("s1", MAC, LINUX, max_agents=4, warm_pool=WarmPool(enabled=True, size=1)))
    assert world.agent(agent).label_set == 1
    assert world.reaped == []
    assert [one.label_set for one in world.launched] == [0, 0]


def test_the_surplus_of_a_smaller_warm_pool_goes_the_oldest_first():
    world = World(scaler("s1", max_agents=4, warm_pool=WarmPool(enabled=True, size=3)))
    agents = []
    for number in range(3):
        agents.append(world.arrive(number))
        world.wait(1)
    reload(world, scaler("s1", max_agents=4, warm_pool=WarmPool(enabled=True, size=1)))
    assert [one.agent_id for one in world.reaped] == agents[:2]


def test_a_warm_agent_at_work_survives_its_pool():
    world = World(scaler("s1", max_agents=2, warm_pool=WarmPool(enabled=True, size=1)))
    agent = world.arrive()
    world.offer()
    world.run(agent)
    reload(world, scaler("s1", max_agents=2))
    assert agent not in [one.agent_id for one in world.reaped]


# S57
def test_agents_found_after_a_restart_count_in_the_caps():
    one = label_set("linux", resources=Resources(requests=ResourceSpec(cpus=2)))
    world = World(scaler("s1", one, max_agents=9, resource_cap=ResourceCap(max_cpu=2)))
    found = FoundAgent(
        agent_id="scaler-fake-9", job_id="j9", run_id="r9", label_set_labels=("linux",)
    )
    world.do(AgentsFound("s1", [found]))
    world.offer("j1")
    assert world.launched == []
    assert world.job("j1").state is JobState.QUEUED
