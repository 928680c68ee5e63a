"""The faults of issue 3 at their full length: a link or a coordinator that is away for longer
than every time-out of ours."""

import time

import pytest

from tests.support.waiting import wait_for

pytestmark = [pytest.mark.minutes, pytest.mark.timeout(400)]

#: A job of 20 s: it ends long before the fault does.
WRITES = "for i in $(seq 30); do echo line $i; sleep 0.67; done"
WHOLE = [f"line {i}" for i in range(1, 31)]


def started(house):
    job = house.submit("long", WRITES)
    house.wait_log(job, "line 3")
    return job


def ends_whole(house, job):
    row = house.wait_end(job, 120)
    assert row["state"] == "success", row
    assert house.log(job, 0) == WHOLE
    assert house.terminals(job) == ["success"]
    outbox = house.root / "data/worker-outbox"
    wait_for(lambda: not any(outbox.glob("*__*")), "outbox empty", 30)


# P54, P63
def test_a_job_outlives_a_coordinator_that_is_dead_for_60_s(house):
    job = started(house)
    house.coordinator.kill()
    time.sleep(60)
    assert not house.agents(), "the job ended meanwhile, and nobody heard of it"
    house.start_coordinator()
    ends_whole(house, job)


# P11, P63
def test_a_job_outlives_a_link_that_is_half_open_for_2_min(linked):
    job = started(linked)
    linked.proxy.hold = True
    time.sleep(120)
    linked.proxy.heal()
    ends_whole(linked, job)


# P11, P63
def test_a_silent_link_is_given_up_and_dialled_again(linked):
    job = started(linked)
    linked.proxy.hold = True
    wait_for(lambda: linked.status().get("coordinatorConnection") != "connected", "given up", 100)
    linked.proxy.cut()
    linked.proxy.heal()
    ends_whole(linked, job)


# A76, A78, P55
@pytest.mark.parametrize("what", ["worker", "pool", "peer", "web"])
def test_a_job_of_20_s_outlives_kill_9(house, what):
    job = started(house)
    if what == "worker":
        house.kill_worker()
        house.start_worker()
    else:
        house.kill_child(what)
    ends_whole(house, job)
