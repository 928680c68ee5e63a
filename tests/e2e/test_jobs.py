"""Real jobs through the whole chain: coordinator, worker, host agent (issue 2, must show)."""

import subprocess

from tests.support.waiting import wait_for


def states(house, jobs):
    return {name: house.wait_end(job)["state"] for name, job in jobs.items()}


# P50, A42, W115, A81
def test_five_jobs_on_two_slots_end_right_with_whole_logs(house):
    lines = "for i in $(seq 200); do echo line $i; done"
    jobs = {
        "good": house.submit("good", lines),
        "failing": house.submit("failing", "echo before; exit 3", "echo never"),
        "slow": house.submit("slow", "echo started; sleep 300"),
    }
    run = house.job(jobs["good"])["runId"]
    for name in ("twin-a", "twin-b"):
        status, body = house.api(
            "POST",
            "/api/v1/jobs",
            {
                "job": {"name": name, "runs-on": ["linux", "test"], "steps": [{"run": lines}]},
                "runId": run,
            },
        )
        assert status == 201, body
        jobs[name] = body["jobId"]
    house.wait_log(jobs["slow"], "started")
    assert house.api("POST", f"/api/v1/jobs/{jobs['slow']}/cancel", {})[0] == 200
    assert states(house, jobs) == {
        "good": "success",
        "failing": "failed",
        "slow": "cancelled",
        "twin-a": "success",
        "twin-b": "success",
    }
    wanted = [f"line {i}" for i in range(1, 201)]
    for name in ("good", "twin-a", "twin-b"):
        assert house.log(jobs[name], 0) == wanted
    assert "before" in house.log(jobs["failing"], 0)
    assert "never" not in house.log(jobs["failing"])


# A93, P48
def test_a_secret_comes_out_masked_and_touches_no_file(house, tmp_path):
    secret = "correct-horse-battery"
    job = house.submit(
        "masked",
        {"run": "echo the secret is $TOKEN; sleep 0.3", "secretEnv": {"TOKEN": "TOKEN"}},
        secrets={"TOKEN": secret},
    )
    assert house.wait_end(job)["state"] == "success"
    assert house.log(job, 0) == ["the secret is ***"]
    found = subprocess.run(
        ["grep", "-rlF", secret, str(tmp_path)], capture_output=True, text=True
    ).stdout
    assert found == ""


# P40, W98
def test_a_job_with_labels_nobody_has_stays_queued_with_the_reason(house):
    job = house.submit("nowhere", "true", **{"runs-on": ["no-such-label"]})
    row = house.job(job)
    assert row["state"] == "queued"
    assert "label" in (row["waiting"] or "").lower()
    house.api("POST", f"/api/v1/jobs/{job}/cancel", {})
    assert house.wait_end(job)["state"] == "cancelled"


# W99
def test_more_jobs_than_slots_wait_and_then_run(house):
    jobs = [house.submit(f"job-{i}", "echo ran") for i in range(6)]
    assert {house.wait_end(job)["state"] for job in jobs} == {"success"}
    assert all(house.log(job, 0) == ["ran"] for job in jobs)


def test_outputs_env_and_path_files_reach_later_steps(house):
    job = house.submit(
        "files",
        'echo "GREETING=hello" >> "$KICI_ENV"; mkdir -p bin; '
        "printf '#!/bin/sh\\necho from-path\\n' > bin/tool; chmod +x bin/tool; "
        'echo "$PWD/bin" >> "$KICI_PATH"',
        'echo "$GREETING"; tool',
    )
    assert house.wait_end(job)["state"] == "success"
    assert house.log(job, 1) == ["hello", "from-path"]


def test_the_agents_are_gone_when_their_jobs_are(house):
    job = house.submit("short", "true")
    house.wait_end(job)
    wait_for(lambda: not house.agents(), "agents gone", 15)
