"""Guards: up beyond a limit, down only when things are clearly better, said everywhere."""

import pytest

from kici.config.model import WarmPool
from kici.contracts.link.jobs import JobAccepted, JobDeclined
from kici.contracts.link.views import DeclineView, PoolCapacity
from kici.contracts.states import JobState
from kici.pool.events import MachineRead
from kici.pool.guards import Disk, Guards, Limits, Reading
from kici.protocol.heartbeat import advert
from tests.support.pool_world import World, scaler

LIMITS = Limits(disk_min=1000, inodes_min=100, memory_min=500, temperature_max=80)
#: The limits of ``Settings`` are well above this.
SICK = Reading(disks=(Disk(path="/data", bytes_free=10 * 2**20),))
WELL = Reading(disks=(Disk(path="/data", bytes_free=10 * 2**30),))


def disk(n_bytes, n_inodes=None):
    return Reading(disks=(Disk(path="/d", bytes_free=n_bytes, inodes_free=n_inodes),))


@pytest.mark.parametrize(
    ("readings", "up"),
    [
        # Each row: readings one after the other, and whether the guard is up after each.
        ([disk(1000), disk(999), disk(1000), disk(1199), disk(1200), disk(1100)], ".xxx.."),
        ([disk(9999, 99), disk(9999, 119), disk(9999, 120)], "xx."),
        ([disk(9999, None), disk(0, None)], ".x"),
        ([Reading(memory_available=m) for m in (500, 499, 599, 600, 500)], ".xx.."),
        ([Reading(temperature=t) for t in (80.0, 80.1, 75.1, 75.0, 79.9)], ".xx.."),
        # What cannot be read any more holds nobody up.
        ([Reading(temperature=99.0), Reading()], "x."),
        ([Reading(memory_available=1), Reading()], "x."),
        ([disk(1), Reading()], "x."),
    ],
)
def test_guard_has_hysteresis(readings, up):
    guards = Guards(LIMITS)
    seen = ""
    for reading in readings:
        guards.look(reading)
        seen += "x" if guards.reason else "."
    assert seen == up


def test_the_worst_disk_counts_and_is_named():
    guards = Guards(LIMITS)
    good, bad = Disk(path="/a", bytes_free=9999), Disk(path="/b", bytes_free=1)
    assert guards.look(Reading(disks=(good, bad)))
    assert guards.reason == "disk: 0 MiB free at /b, 0 MiB are the least"
    assert not guards.look(Reading(disks=(bad, good))), "nothing went up or came down"


def test_several_guards_are_all_named():
    guards = Guards(LIMITS)
    guards.look(Reading(disks=(Disk(path="/d", bytes_free=1, inodes_free=1),), temperature=90.0))
    assert guards.names == ("disk", "inodes", "temperature")
    assert guards.reason.count(";") == 2


def test_a_guard_that_is_off_never_goes_up():
    guards = Guards(Limits())
    assert not guards.look(
        Reading(
            disks=(Disk(path="/d", bytes_free=0, inodes_free=0),),
            memory_available=0,
            temperature=200.0,
        )
    )


# S83: only firecracker has the reference's guard, which ends the process; ours refuses instead.
def test_offers_are_refused_with_the_guard_s_reason():
    world = World(scaler(max_agents=2))
    world.do(MachineRead(SICK))
    world.offer()
    (answer,) = world.answers()
    assert isinstance(answer, JobDeclined)
    assert answer.reason == "disk: 10 MiB free at /data, 512 MiB are the least"
    assert world.launched == []
    shown = [one for one in world.told["web"] if isinstance(one, DeclineView)]
    assert shown[-1].reason == answer.reason
    world.do(MachineRead(WELL))
    world.offer("j2")
    assert isinstance(world.answers()[-1], JobAccepted)
    assert len(world.launched) == 1


def test_no_capacity_is_advertised_while_a_guard_is_up():
    world = World(scaler(max_agents=2))
    world.register("a1")
    world.do(MachineRead(SICK))
    world.wait(0.2)
    told = [one for one in world.told["peer"] if isinstance(one, PoolCapacity)][-1]
    assert told.refusing.startswith("disk: ")
    assert told.guards == ("disk",)
    offered = advert(told, draining=False)
    assert [(one.max_agents, one.active_count) for one in offered.scalers] == [(0, 0)]
    assert [(one.active_jobs, one.max_concurrency) for one in offered.agents] == [(1, 1)]
    # People still see how things are.
    assert told.scalers[0].max_agents == 2
    assert told.agents[0].active_jobs == 0
    world.do(MachineRead(WELL))
    world.wait(0.2)
    told = [one for one in world.told["peer"] if isinstance(one, PoolCapacity)][-1]
    assert (told.refusing, told.guards) == ("", ())
    assert advert(told, draining=False).scalers[0].max_agents == 2


def test_accepted_jobs_wait_for_a_fit_machine_and_running_ones_go_on():
    world = World(scaler(max_agents=1))
    world.offer("j1")
    world.offer("j2")
    agent = world.arrive()
    world.run(agent)
    world.do(MachineRead(SICK))
    world.end(agent=agent)
    assert [one["state"] for one in world.frames() if one.get("kind") == "job"][-1] == "success"
    world.store()
    world.lose(agent)
    world.backend(agent, "exited")
    assert len(world.launched) == 1
    assert world.job("j2").state is JobState.QUEUED
    world.do(MachineRead(WELL))
    assert len(world.launched) == 2


def test_warm_pools_are_not_filled_while_a_guard_is_up():
    world = World(
        scaler(warm_pool=WarmPool(enabled=True, size=1)), start=False, credit=0, outbox=False
    )
    world.do(MachineRead(SICK))
    world._take(world.core.start(world.now))
    assert world.launched == []
    world.do(MachineRead(WELL))
    assert len(world.launched) == 1


def test_a_change_is_logged_once_with_its_reason():
    world = World()
    for reading in (SICK, SICK, WELL, WELL):
        world.do(MachineRead(reading))
    lines = [note for note in world.notes if "machine is" in note.message]
    assert [one.level for one in lines] == ["warning", "info"]
    assert lines[0].fields["reason"].startswith("disk: ")
