"""Whatever dies in the middle of a job: it ends once and its log is whole (issue 3)."""

import os
import signal
import time

import pytest

from tests.support.long_job import ends_whole, started, writes
from tests.support.waiting import wait_for

#: Enough for every fault here to happen while lines are being written.
WRITES = writes(0.2)


# A76, A78, A79, P55, P56
def test_a_job_outlives_the_kill_of_the_whole_worker(house):
    job = started(house, WRITES)
    agents = house.agents()
    house.kill_worker()
    assert house.agents() == agents, "the agent died with its worker"
    house.start_worker()
    ends_whole(house, job)
    messages = [row.get("message") for row in house.worker.lines()]
    assert "Agent came back with its job" in messages


# P61, W139, W45
def test_a_worker_restarts_without_its_token(house):
    house.kill_worker()
    house.start_worker()
    job = house.submit("after", "echo ran")
    assert house.wait_end(job)["state"] == "success"


# A76, A77
@pytest.mark.parametrize("child", ["pool", "peer", "web"])
def test_a_job_outlives_the_kill_of_a_child(house, child):
    job = started(house, WRITES)
    house.kill_child(child)
    ends_whole(house, job)


def test_a_job_outlives_the_kill_of_every_child_in_turn(house):
    job = started(house, WRITES)
    for child in ("web", "peer", "pool"):
        house.kill_child(child)
    ends_whole(house, job)


# P54, P63
def test_a_job_outlives_the_death_of_its_coordinator(house):
    job = started(house, WRITES)
    house.coordinator.kill()
    wait_for(lambda: house.status().get("coordinatorConnection") != "connected", "link lost")
    time.sleep(3)  # the coordinator is away while lines are written
    house.start_coordinator()
    ends_whole(house, job)


# P54, P57
def test_a_job_that_ends_while_the_coordinator_is_away_is_reported_on_return(house):
    job = started(house, WRITES)
    house.coordinator.kill()
    wait_for(lambda: not house.agents(), "the job ended", 30)
    house.start_coordinator()
    ends_whole(house, job)


# P54, P55, P58, W106
def test_a_report_that_nobody_acknowledged_survives_a_power_cut(house):
    job = started(house, WRITES)
    house.coordinator.kill()
    outbox = house.root / "data/worker-outbox"
    wait_for(lambda: not house.agents(), "the job ended", 30)
    wait_for(lambda: any(outbox.glob("*.json")), "report stored")
    house.kill_worker()
    house.start_worker(connected=False)
    time.sleep(1)
    house.start_coordinator()
    ends_whole(house, job)
    wait_for(lambda: not any(outbox.glob("*__*")), "outbox empty")


# P9, P63, W105
def test_a_job_outlives_a_link_that_is_cut(linked):
    job = started(linked, WRITES)
    for _ in range(3):
        connections = linked.proxy.n_connections
        linked.proxy.cut()
        wait_for(lambda n=connections: linked.proxy.n_connections > n, "dialled again")
        time.sleep(0.3)
    ends_whole(linked, job)


# P63
def test_a_half_open_link_loses_no_line_when_it_ends_cut(linked):
    job = started(linked, WRITES)
    linked.proxy.hold = True
    time.sleep(3)  # lines vanish into the silent link
    linked.proxy.cut()
    linked.proxy.heal()
    ends_whole(linked, job)


def test_a_stopped_coordinator_that_goes_on_has_lost_nothing(house):
    job = started(house, WRITES)
    house.coordinator.signal(signal.SIGSTOP)
    time.sleep(3)
    house.coordinator.signal(signal.SIGCONT)
    ends_whole(house, job)


@pytest.mark.parametrize("child", ["pool", "peer", "web"])
def test_a_child_that_was_stopped_and_goes_on_has_lost_nothing(house, child):
    job = started(house, WRITES)
    pid = house.child(child)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(2)
    os.kill(pid, signal.SIGCONT)
    ends_whole(house, job)
