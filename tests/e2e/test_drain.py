"""Drain, signals and cancels with real jobs (issue 3, items 3 and 5)."""

import signal
import subprocess
import time

import pytest

from tests.support.house import House
from tests.support.waiting import wait_for


@pytest.fixture
def hasty(tmp_path):
    """A house that drains for 2 s at most."""
    house = House(tmp_path, env={"KICI_DRAIN_TIMEOUT": "2s"})
    try:
        yield house.start()
    finally:
        house.close()
    assert not house.agents(), "agents left behind"


def running(house, name="long"):
    job = house.submit(name, "echo started; sleep 300")
    house.wait_log(job, "started")
    return job


def messages(house):
    return [row.get("message", "") for row in house.worker.lines()]


# W124, W129, W127
def test_sigterm_cancels_and_reports_what_is_left_after_the_drain_timeout(hasty):
    job = running(hasty)
    begun = time.monotonic()
    hasty.worker.signal(signal.SIGTERM)
    assert hasty.worker.wait(20) == 0
    assert 2 <= time.monotonic() - begun < 15
    row = hasty.job(job)
    assert row["state"] == "cancelled", row
    said = messages(hasty)
    order = [
        "Draining in-flight jobs...",
        "Draining: 1 job(s) in flight",
        "Cancelling the jobs in flight",
        "Disconnecting from coordinators...",
        "Broadcasting peer.leaving to all coordinators",
        "Shutting down scaler...",
        "Closing HTTP server...",
        "Graceful shutdown complete",
    ]
    places = [said.index(text) for text in order]
    assert places == sorted(places)
    assert not hasty.agents()


# W130
def test_a_second_signal_cancels_now(house):
    job = running(house)
    house.worker.signal(signal.SIGTERM)
    wait_for(lambda: house.status().get("draining"), "draining shown")
    begun = time.monotonic()
    house.worker.signal(signal.SIGINT)
    assert house.worker.wait(20) == 0
    assert time.monotonic() - begun < 15
    assert house.job(job)["state"] == "cancelled"
    assert any("Shutdown already in progress" in text for text in messages(house))


# W131, A76
def test_a_third_signal_exits_now_and_leaves_the_jobs_to_the_next_start(house):
    job = house.submit("long", "echo started; sleep 4; echo ended")
    house.wait_log(job, "started")
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGTERM):
        house.worker.signal(number)
        time.sleep(0.05)  # signals that are pending at the same time are one
    begun = time.monotonic()
    assert house.worker.wait(5) == 1
    assert time.monotonic() - begun < 2
    house.start_worker()
    assert house.wait_end(job)["state"] in ("success", "cancelled")


# W122
def test_an_agent_that_is_idle_after_its_job_delays_no_exit(house):
    job = house.submit("short", "echo ran")
    house.wait_end(job)
    begun = time.monotonic()
    house.worker.signal(signal.SIGTERM)
    assert house.worker.wait(5) == 0
    assert time.monotonic() - begun < 2


# W132, W134, P36, P39
def test_a_drain_with_a_deadline_and_a_reason_ends_its_jobs_and_can_be_undone(house):
    job = running(house)
    status, _ = house.web("POST", "/drain", {"deadline": "1", "reason": "new kernel"})
    assert status == 200
    status = wait_for(lambda: house.status().get("draining") and house.status(), "draining shown")
    assert "new kernel" in str(status)
    assert house.wait_end(job)["state"] == "cancelled"
    assert house.worker.running()
    waiting = house.submit("waiting", "echo ran")
    time.sleep(0.5)  # it must not start in this time
    assert house.job(waiting)["state"] == "queued"
    assert house.web("DELETE", "/drain")[0] == 200
    assert house.wait_end(waiting)["state"] == "success"
    assert not house.status().get("draining")


# W135
def test_a_job_that_is_still_starting_counts_as_in_flight(house):
    job = house.submit("starting", "echo ran")
    wait_for(lambda: house.job(job)["state"] == "accepted", "accepted")
    house.worker.signal(signal.SIGTERM)
    assert house.worker.wait(20) == 0
    assert house.job(job)["state"] == "success"


# A72, W112
def test_a_queued_job_that_is_cancelled_never_runs(tmp_path):
    house = House(tmp_path, slots=1)
    try:
        house.start()
        first = running(house)
        second = house.submit("second", f"touch {tmp_path}/ran")
        house.api("POST", f"/api/v1/jobs/{second}/cancel", {})
        assert house.wait_end(second)["state"] == "cancelled"
        house.api("POST", f"/api/v1/jobs/{first}/cancel", {})
        assert house.wait_end(first)["state"] == "cancelled"
        assert not (tmp_path / "ran").exists()
    finally:
        house.close()


# A72, A73
def test_a_starting_job_that_is_cancelled_never_runs(house):
    job = house.submit("starting", f"touch {house.root}/ran")
    house.api("POST", f"/api/v1/jobs/{job}/cancel", {})
    assert house.wait_end(job)["state"] == "cancelled"
    wait_for(lambda: not house.agents(), "agent gone", 20)
    assert not (house.root / "ran").exists()


# A74, C52
def test_a_cancel_while_the_worker_is_away_takes_effect_on_its_return(house):
    job = running(house)
    house.kill_worker()
    house.api("POST", f"/api/v1/jobs/{job}/cancel", {})
    house.start_worker()
    assert house.wait_end(job)["state"] == "cancelled"
    wait_for(lambda: not house.agents(), "agent gone", 20)


# A74
def test_a_cancel_while_the_agent_is_away_takes_effect_on_its_return(house):
    job = running(house)
    (agent,) = house.agents()
    house.kill_child("pool")
    house.api("POST", f"/api/v1/jobs/{job}/cancel", {})
    assert house.wait_end(job)["state"] == "cancelled"
    wait_for(lambda: agent not in house.agents(), "agent gone", 20)


# W114
def test_a_job_whose_agent_dies_fails_with_a_plain_reason(house):
    job = running(house)
    house.kill_agents()
    row = house.wait_end(job)
    assert row["state"] == "failed"
    assert "agent lost while running the job" in row["reason"]


# W129
def test_start_and_process_titles_can_be_recognised(house):
    assert f"Worker started on port {house.port}" in messages(house)
    pids = ",".join(map(str, house.worker_pids()))
    shown = subprocess.run(["ps", "-o", "args=", "-p", pids], capture_output=True, text=True)
    assert {line.strip() for line in shown.stdout.splitlines()} == {
        f"kici-worker: {name}" for name in ("supervisor", "peer", "pool", "web")
    }
