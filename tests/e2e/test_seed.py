"""The seed's quick start and its drain, word for word (issue 2, must show)."""

import re
import signal
import time

from tests.support.house import House
from tests.support.waiting import wait_for


# R11, R12, R14, R15; W1, W41, W45, W139
# W1
def test_quick_start_of_the_seed(tmp_path):
    house = House(tmp_path)
    try:
        house.start_coordinator()
        made = house.command("kici-admin", "peer", "create-token", "--role", "worker")
        token = re.search(r"kici_join_v1\.[\w-]+\.[0-9a-f]{64}", made.stdout)[0]
        house.start_worker(token)
        assert house.api("GET", "/cluster/health")[1]["connectedPeers"] == 1
        status = house.status()
        assert status["instanceId"] == "worker-1"
        assert status["role"] == "worker"
        assert status["coordinatorConnection"] == "connected"
        house.worker.signal(signal.SIGTERM)
        assert house.worker.wait(5) == 0
        house.start_worker()
        assert house.status()["coordinatorConnection"] == "connected"
    finally:
        house.close()


# W122, W127
def test_sigterm_when_idle_exits_0_within_2_s(house):
    job = house.submit("before", "true")
    house.wait_end(job)
    wait_for(lambda: not house.agents(), "agent gone", 15)
    begun = time.monotonic()
    house.worker.signal(signal.SIGTERM)
    assert house.worker.wait(5) == 0
    assert time.monotonic() - begun < 2
    messages = [line.get("message") for line in house.worker.lines()]
    assert "Graceful shutdown complete" in messages


# W123, W125, W134
def test_sigterm_with_a_running_job_waits_for_it(house):
    job = house.submit("running", "echo started; sleep 3; echo ended")
    house.wait_log(job, "started")
    house.worker.signal(signal.SIGTERM)
    wait_for(lambda: house.status().get("draining"), "draining shown")
    assert house.worker.wait(20) == 0
    assert house.job(job)["state"] == "success"
    assert house.log(job, 0) == ["started", "ended"]


# P39, W76, W97, W132
def test_post_drain_refuses_jobs_and_keeps_the_process(house):
    status, body = house.web("POST", "/drain")
    assert (status, body["draining"], body["activeJobs"]) == (200, True, 0)
    job = house.submit("refused", "true")
    wait_for(lambda: house.status().get("draining"), "draining shown")
    time.sleep(0.5)  # the job must not start in this time
    assert house.job(job)["state"] == "queued"
    assert house.worker.running()


# W133, R69
def test_drain_worker_command_of_the_seed(house):
    done = house.command("kici", "admin", "drain-worker", "--url", f"http://127.0.0.1:{house.port}")
    assert done.stdout.strip() == "Worker draining. Active jobs: 0"


def kill_child(house, name):
    others = {n: house.child(n) for n in ("peer", "pool", "web") if n != name}
    before = house.child(name)
    import os

    os.kill(before, signal.SIGKILL)
    wait_for(lambda: house.child(name) not in (0, before), f"{name} back", 2)
    assert {n: house.child(n) for n in others} == others
    wait_for(lambda: house.status().get("coordinatorConnection") == "connected", "connected", 10)
    job = house.submit("after", "echo still works")
    assert house.wait_end(job)["state"] == "success"


def test_a_killed_peer_is_back_within_2_s(house):
    kill_child(house, "peer")


def test_a_killed_pool_is_back_within_2_s(house):
    kill_child(house, "pool")


def test_a_killed_web_is_back_within_2_s(house):
    kill_child(house, "web")
