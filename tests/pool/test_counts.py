"""What the pool counts, and what it says of warm pools and resources."""

from kici.config.model import Resources, ResourceSpec, WarmPool
from kici.contracts.link.lifecycle import SnapshotRequest
from kici.contracts.link.views import PoolCapacity, PoolCounts
from kici.pool.events import MachineRead
from kici.pool.guards import Reading
from tests.support.pool_world import World, label_set, scaler


def counts(world):
    world.do(MachineRead(Reading()))
    told = [one for one in world.told["web"] if isinstance(one, PoolCounts)]
    return told[-1] if told else None


def slots(world):
    world.wait(0.2)
    return [one for one in world.told["web"] if isinstance(one, PoolCapacity)][-1].scalers[0]


def test_counts_are_told_when_they_grew_and_again_to_a_new_reader():
    world = World(scaler())
    assert counts(world).n_log_chunks == 0
    world.offer()
    agent = world.arrive()
    world.run(agent)
    world.log("one", "three", agent=agent)
    told = counts(world)
    assert (told.n_log_chunks, told.n_log_bytes) == (1, 8)
    counts(world)
    assert len([one for one in world.told["web"] if isinstance(one, PoolCounts)]) == 2
    world.do(SnapshotRequest(reader="web"))
    assert len([one for one in world.told["web"] if isinstance(one, PoolCounts)]) == 3


def test_failed_starts_are_counted_by_backend_and_whether_a_job_waited():
    world = World(scaler(max_agents=1))
    world.offer("j1")
    world.offer("j2")
    world.backend(world.launched[0].agent_id, "failed", "no")
    assert counts(world).spawn_failures == (("fake", True, 1),)
    assert counts(world).n_spawn_refusals == 1, "the second offer found no room"


def test_warm_pools_are_shown_and_counted():
    world = World(scaler(max_agents=3, warm_pool=WarmPool(enabled=True, size=2)))
    world.arrive(0)
    (warm,) = slots(world).warm
    assert (warm.label_set, warm.target, warm.ready, warm.in_flight) == ("linux", 2, 1, 1)
    assert counts(world).warm_spawns == (("s1", 2),)


def test_reserved_resources_are_shown():
    two = label_set("linux", resources=Resources(requests=ResourceSpec(cpus=2, memory_bytes=64)))
    world = World(scaler("s1", two, max_agents=3))
    world.offer("j1")
    world.offer("j2")
    assert (slots(world).cpus_used, slots(world).memory_used_bytes) == (4, 128)
