"""The faults of issue 3 at their full length: a link or a coordinator that is away for longer
than every time-out of ours."""

import contextlib
import os
import signal
import subprocess
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


# A76, A78
def test_a_job_outlives_a_worker_whose_peer_cannot_be_kept_alive(house):
    """It dies each time it is started, until the worker gives up: a service manager's next start
    finds the agent at work."""
    job = started(house, writes(4))
    ending = time.monotonic() + 200
    while house.worker.running():
        assert time.monotonic() < ending, "the worker does not give up"
        for pid in children_of(house.worker.pid, "kici-worker: peer"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)
    assert house.worker.wait(5) == 1
    assert len(house.agents()) == 1
    house.start_worker()
    ends(house, job)


def children_of(parent, title):
    shown = subprocess.run(["ps", "ax", "-o", "pid=,ppid=,args="], capture_output=True, text=True)
    rows = [row.split(None, 2) for row in shown.stdout.splitlines()]
    return [int(pid) for pid, ppid, args in rows if int(ppid) == parent and args.startswith(title)]
