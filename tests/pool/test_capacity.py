"""What is told of agents and scalers: gates, counts, and the events of a start."""

from msgspec.structs import replace

from kici.contracts.link.jobs import ScalerReported
from kici.contracts.link.views import PoolCapacity
from tests.support.pool_world import World, label_set, scaler


def told(world):
    """The newest capacity."""
    return [one for one in world.told["peer"] if isinstance(one, PoolCapacity)][-1]


# S70
def test_a_registered_agent_has_the_gate_of_its_label_set():
    sets = (label_set("linux", "gpu", gate=("gpu",)), label_set("linux", "small"))
    world = World(scaler("s1", *sets))
    world.offer(labels=("linux", "gpu"))
    world.arrive(labels=("linux", "gpu", "kici:agent:fake"))
    world.wait(1)
    [shown] = told(world).agents
    assert shown.mandatory_labels == ("gpu",)


# S88
def test_each_scaler_has_one_entry_that_counts_starting_agents_too():
    world = World(scaler("s1", max_agents=3), scaler("s2", label_set("mac")))
    world.offer("j1")
    world.wait(1)
    first, second = told(world).scalers
    assert (first.name, first.max_agents, first.active_count) == ("s1", 3, 1)
    assert (second.name, second.active_count) == ("s2", 0)
    assert first.label_sets == (("linux", "kici:agent:fake"),)


# S63
def test_an_end_that_is_told_twice_is_counted_once():
    world = World(scaler("s1", max_agents=1))
    world.offer("j1")
    agent = world.arrive()
    world.run(agent)
    world.status("success", agent)
    world.lose(agent)
    for _ in range(3):
        world.backend(agent, "exited")
    world.wait(1)
    [entry] = told(world).scalers
    assert entry.active_count == 0
    world.offer("j2")
    assert len(world.launched) == 2
    world.wait(1)
    assert told(world).scalers[0].active_count == 1


# S91 S93
def test_a_start_is_told_as_provisioning_ready_connecting_with_the_specs_fields():
    world = World(scaler("s1"))
    world.offer("j1")
    agent = world.launched[-1].agent_id
    world.backend(agent, "provisioning", "preparing")
    world.arrive()
    frames = world.frames(ScalerReported)
    assert [frame["eventType"] for frame in frames] == [
        "scaler.provisioning",
        "scaler.ready",
        "agent.connecting",
    ]
    for frame in frames:
        assert frame.keys() == {
            "type", "runId", "jobId", "agentId", "eventType", "detail", "timestampMs"
        }  # fmt: skip
        assert frame["type"] == "scaler.event"
        assert (frame["runId"], frame["jobId"], frame["agentId"]) == ("r1", "j1", agent)


# S90
def test_only_a_container_scaler_with_a_host_spawns_elsewhere():
    kinds = {"type": "container", "socket_path": "/run/docker.sock"}
    local = replace(scaler("a", label_set("x")), **kinds)
    remote = replace(scaler("b", label_set("y")), type="container", host="tcp://other:2376")
    process = replace(scaler("c", label_set("z")), type="bare-metal")
    world = World(local, remote, process)
    world.wait(1)
    assert [one.spawns_on_local_host for one in told(world).scalers] == [True, False, True]


# A36
def test_an_ack_that_comes_at_once_counts():
    world = World()
    world.register()
    world.offer()
    world.ack()
    world.status("running")
    world.wait(120)
    assert len(world.dispatches()) == 1
    assert not world.closed
    world.end()
    assert world.states() == ["running", "success"]
