"""A restart of the worker while jobs run: they do not notice (issue 6)."""

import os
import subprocess
import time

from tests.support.house import ROOT, SCRIPTS, House
from tests.support.waiting import wait_for

#: Long enough to span a restart, short enough for every run of the tests.
LINES = 20
WRITES = f"for i in $(seq {LINES}); do echo line $i; sleep 0.2; done"
WHOLE = [f"line {i}" for i in range(1, LINES + 1)]


def hand_over(house):
    """Order it as the unit's ExecStop does; returns the seconds until the worker's end."""
    began = time.monotonic()
    done = subprocess.run(
        [str(SCRIPTS / "kici-workerctl"), "handover"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "KICI_RUNTIME_DIR": f"{house.root}/runtime"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert house.worker.wait(5) == 0
    return time.monotonic() - began


def test_a_job_does_not_notice_a_hand_over(house):
    job = house.submit("long", f"echo began\n{WRITES}")
    house.wait_log(job, "line 3")
    agents = house.agents()
    assert hand_over(house) < 2
    assert house.agents() == agents, "the agent left with its worker"
    house.start_worker()
    assert house.wait_end(job)["state"] == "success"
    assert house.log(job, 0) == ["began", *WHOLE]
    messages = [row.get("message") for row in house.worker.lines()]
    assert "Agent came back with its job" in messages
    assert "Leaving agents to the next start done" in messages


def test_a_job_outlives_a_row_of_hand_overs(house):
    job = house.submit("long", f"echo began\n{WRITES}")
    house.wait_log(job, "line 2")
    for _ in range(3):
        hand_over(house)
        house.start_worker()
    assert house.wait_end(job)["state"] == "success"
    assert house.log(job, 0) == ["began", *WHOLE]


def test_a_job_that_ends_while_no_worker_is_there_is_reported_by_the_next(house):
    job = house.submit("short", "echo began\necho line 3; sleep 2; echo last")
    house.wait_log(job, "line 3")
    hand_over(house)
    time.sleep(3)  # the job ends; its agent waits for a worker to say so
    house.start_worker()
    assert house.wait_end(job)["state"] == "success"
    assert house.log(job, 0) == ["began", "line 3", "last"]


# W139
def test_a_token_from_a_file_is_wiped_and_not_needed_again(tmp_path):
    token_file = tmp_path / "join-token"
    house = House(tmp_path, env={"KICI_CLUSTER_JOIN_TOKEN_FILE": str(token_file)})
    try:
        house.start_coordinator()
        token_file.write_text(house.join_token() + "\n")
        house.start_worker()
        wait_for(lambda: token_file.read_bytes() == b"", "token wiped")
        hand_over(house)
        house.start_worker()
    finally:
        house.close()
