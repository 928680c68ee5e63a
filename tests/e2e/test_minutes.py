"""The faults of issue 3 at their full length: a link or a coordinator that is away for longer
than every time-out of ours."""

import time

import pytest

from tests.support.long_job import ends_whole, started, writes
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.minutes, pytest.mark.timeout(400)]

#: A job of 20 s: it ends long before the fault does.
WRITES = writes(0.67)


def ends(house, job):
    """Whole, and nothing is owed any more."""
    ends_whole(house, job, 120)
    outbox = house.root / "data/worker-outbox"
    wait_for(lambda: not any(outbox.glob("*__*")), "outbox empty", 30)


# P54, P63
def test_a_job_outlives_a_coordinator_that_is_dead_for_60_s(house):
    job = started(house, WRITES)
    house.coordinator.kill()
    time.sleep(60)
    assert not house.agents(), "the job ended meanwhile, and nobody heard of it"
    house.start_coordinator()
    ends(house, job)


# P11, P63
def test_a_job_outlives_a_link_that_is_half_open_for_2_min(linked):
    job = started(linked, WRITES)
    linked.proxy.hold = True
    time.sleep(120)
    linked.proxy.heal()
    ends(linked, job)


# P11, P63
def test_a_silent_link_is_given_up_and_dialled_again(linked):
    job = started(linked, WRITES)
    linked.proxy.hold = True
    wait_for(lambda: linked.status().get("coordinatorConnection") != "connected", "given up", 100)
    linked.proxy.cut()
    linked.proxy.heal()
    ends(linked, job)


# A76, A78, P55
@pytest.mark.parametrize("what", ["worker", "pool", "peer", "web"])
def test_a_job_of_20_s_outlives_kill_9(house, what):
    job = started(house, WRITES)
    if what == "worker":
        house.kill_worker()
        house.start_worker()
    else:
        house.kill_child(what)
    ends(house, job)
