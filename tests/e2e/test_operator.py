"""What an operator sees of real jobs on a real worker (issue 5)."""

import json
import re
import socket
import statistics
import time

import pytest

from tests.support.command import run_worker
from tests.support.house import House, http
from tests.support.waiting import wait_for


def cli(house, *words: str, check: bool = False):
    return house.command(
        "kici-worker", *words, "--url", f"http://127.0.0.1:{house.port}", check=check
    )


# W69 W71 W79
def test_status_page_commands_and_metrics_follow_a_real_job(house):
    job = house.submit("watched", "echo first; sleep 3; echo last", "exit 4")
    house.wait_log(job, "first")
    (running,) = house.web("GET", "/api/v1/jobs")[1]["jobs"]
    assert (running["jobId"], running["status"], running["jobName"]) == (job, "running", "watched")
    status = house.status()
    assert (status["activeJobs"], status["agents"]["active"]) == (1, 1)
    assert house.web("GET", "/cluster/health")[1]["activeRuns"] == 1
    assert "watched" in cli(house, "jobs").stdout
    assert "1 active" in cli(house, "status").stdout
    followed = cli(house, "logs", job, "-f").stdout
    assert "last" in followed
    house.wait_end(job)
    entry = wait_for(lambda: house.status()["recentJobs"], "history")[0]
    assert (entry["jobId"], entry["status"]) == (job, "failed")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["startedAt"])
    assert entry["durationMs"] >= 3000
    page = house.web("GET", "/")[1]
    assert "watched" in page
    metrics = house.web("GET", "/metrics")[1]
    assert 'kici_orch_executions_total{status="failed"} 1.0' in metrics
    assert re.search(r'kici_worker_link_connected\{coordinator="[^"]+"\} 1.0', metrics)
    assert "kici_worker_spawn_seconds_count 1.0" in metrics


def test_explain_agrees_with_what_the_pool_does(house):
    assert cli(house, "explain", "--labels", "linux,test").returncode == 0
    told = cli(house, "explain", "--labels", "linux,gpu")
    assert told.returncode == 1
    assert "lacks gpu" in told.stdout


def test_drain_by_command_refuses_jobs_and_undrain_takes_them_again(house):
    assert (
        "Worker drained. No jobs left."
        in cli(house, "drain", "--reason", "kernel", "--wait").stdout
    )
    wait_for(lambda: house.status()["draining"], "draining")
    status, body = house.web("GET", "/ready?strict=1")
    assert (status, body["checks"]["drain"]) == (503, "draining: kernel")
    assert cli(house, "undrain").returncode == 0
    wait_for(lambda: not house.status()["draining"], "taking jobs")
    job = house.submit("after", "echo yes")
    assert house.wait_end(job)["state"] == "success"


def test_reload_tells_what_came_of_it(house):
    assert cli(house, "reload").stdout == "Reloaded.\n"
    house.write_scalers("version: 1\nscalers: 7\n")
    told = cli(house, "reload")
    assert told.returncode == 1
    assert "scalers" in told.stdout


def test_doctor_finds_a_healthy_worker_healthy(house):
    told = run_worker("doctor", "--json", **house.worker_env())
    checks = json.loads(told.out)["checks"]
    # How busy this machine is says nothing about the worker.
    about_the_worker = [row for row in checks if row["name"] not in ("load", "disk speed")]
    assert [row for row in about_the_worker if row["outcome"] == "fail"] == []
    assert told.code == any(row["outcome"] == "fail" for row in checks)


# W38 W88
@pytest.mark.parametrize(("host", "reachable"), [("127.0.0.1", False), (None, True)])
def test_the_port_is_open_to_others_unless_the_host_says_otherwise(tmp_path, host, reachable):
    """127.0.0.2 stands for another host's way in: only a wildcard listener takes it."""
    house = House(tmp_path)
    env = house.worker_env("kici_join_v1.a.b")
    env.pop("KICI_HOST")
    house.worker_env = lambda token=None: env | ({"KICI_HOST": host} if host else {})
    try:
        house.start_worker(connected=False)  # no coordinator runs
        assert http("GET", f"http://127.0.0.1:{house.port}/health")[0] == 200
        with socket.socket() as probe:
            probe.settimeout(5)
            assert (probe.connect_ex(("127.0.0.2", house.port)) == 0) is reachable
    finally:
        house.close()


# W68 W95 W123
def test_routes_answer_while_sigterm_waits_for_a_job(house):
    job = house.submit("slow", "echo started; sleep 3")
    house.wait_log(job, "started")
    house.worker.signal(15)
    wait_for(lambda: house.status().get("draining"), "draining")
    for path in ("/health", "/ready", "/cluster/health"):
        assert house.web("GET", path)[0] == 200
    assert house.wait_end(job)["state"] == "success"
    assert house.worker.wait(20) == 0


def test_two_hundred_bad_clients_disturb_neither_health_nor_jobs(house):
    clients = []
    try:
        for number in range(200):
            client = socket.create_connection(("127.0.0.1", house.port), timeout=5)
            client.sendall(b"GET /health HTTP/1.1\r\nX: " if number % 2 else b"\x16\x03 junk")
            clients.append(client)
        job = house.submit("undisturbed", "echo yes")
        assert house.wait_end(job)["state"] == "success"
        times = []
        for _ in range(20):
            start = time.monotonic()
            assert house.web("GET", "/health")[0] == 200
            times.append(time.monotonic() - start)
        assert statistics.median(times) < 0.05
    finally:
        for client in clients:
            client.close()
