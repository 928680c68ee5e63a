"""Jobs from the coordinator to our agent in a container, and back: everything real."""

import os

import pytest

from tests.support.engine_house import WAIT_S, engine_house
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
#: The agents dial the bridge's gateway: it must be one of the worker's own addresses.
IN_NAMESPACE = True
SLOTS = 8
#: Makes the agent, not the step, the first choice of the kernel, then fills the memory.
_EAT = (
    "for p in /proc/[0-9]*; do grep -qs kici-agen[t] $p/cmdline && echo 1000 > $p/oom_score_adj;"
    " done; echo eating; exec python3 -c \"x = [b'x' * 2**20 for _ in range(600)]\""
)


@pytest.fixture(scope="module")
def house(engine, tmp_path_factory):
    small = {"resources": {"limits": {"memory": "128m"}}}
    with engine_house(
        tmp_path_factory.mktemp("house"), engine, slots=SLOTS, extra={"small": small}
    ) as started:
        yield started
        started.flag("go")  # after a test that failed, too


def descriptors(house):
    return {name: len(os.listdir(f"/proc/{house.child(name)}/fd")) for name in CHILDREN}


CHILDREN = ("peer", "pool", "web")


# S69 S91 S92 S98 S108
def test_fifty_jobs_through_eight_slots_succeed_and_leave_nothing(house):
    house.ended(house.submit("warm-up", "true"))
    house.wait_clean()
    before = descriptors(house)
    jobs = [house.submit(f"job-{number}", f"echo ran {number}") for number in range(50)]
    ends = {job: wait_end(house, job) for job in jobs}
    assert set(ends.values()) == {"success"}
    for number, job in enumerate(jobs):
        assert house.log(job, 0) == [f"ran {number}"]
    house.wait_clean()
    wait_for(
        lambda: all(descriptors(house)[name] <= before[name] for name in CHILDREN),
        f"no descriptor more than {before}",
    )


def wait_end(house, job):
    return house.wait_end(job, 240)["state"]


# S61
def test_more_jobs_than_max_agents_wait_for_a_slot(house):
    jobs = [house.submit(f"held-{number}", house.wait_step("go")) for number in range(SLOTS)]
    for job in jobs:
        house.wait_state(job, "running", timeout_s=WAIT_S)
    late = house.submit("late", "echo late")
    wait_for(lambda: house.job(late)["waiting"], "the coordinator says why it waits", WAIT_S)
    assert house.job(late)["state"] == "queued"
    assert len(house.containers()) == SLOTS
    house.flag("go")
    assert {house.ended(job)["state"] for job in (*jobs, late)} == {"success"}
    house.wait_clean()


# S79 S94
def test_a_container_out_of_memory_fails_its_job_and_says_so(house):
    job = house.submit_to("small", _EAT)
    row = house.ended(job)
    assert row["state"] == "failed"
    assert "exit code 137" in row["reason"]
    assert "memory" in row["reason"]
    house.wait_clean()
