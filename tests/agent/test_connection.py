"""A real agent whose worker goes away, refuses it, or stops it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kici.agent import settings
from kici.agent.settings import read_settings
from kici.errors import ConfigError
from tests.agent.conftest import ROOT
from tests.support.scripted_worker import ScriptedWorker
from tests.support.waiting import wait_for


# A90 A96 A97 A105
def test_a_job_survives_its_worker_and_everything_is_delivered(worker, start_agent, tmp_path):
    start_agent()
    side = worker.accept()
    side.register()
    script = f"echo before; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; seq 1 500"
    side.dispatch([{"name": "s", "run": script}])
    side.until("log.chunk", stepIndex=0)
    side.cut()
    (tmp_path / "go").touch()
    second = worker.accept()
    register = second.register()
    assert register["inFlightJobs"] == [{"jobId": "job-1", "runId": "run-1"}]
    end = second.until("job.status", state="success")
    assert end["jobId"] == "job-1"
    lines = [line for line in second.log_lines(0) if line != "before"]
    assert lines == [str(number) for number in range(1, 501)]
    assert second.seen[1]["type"] == "agent.log"
    second.until("config.ack") if "config.ack" not in str(second.seen) else None


# A97
def test_a_job_that_ended_while_the_worker_was_away_is_still_reported(start_agent, tmp_path):
    first = ScriptedWorker()
    port = first.port
    from tests.agent.conftest import AgentProcess

    agent = AgentProcess(first.url, tmp_path / "own")
    try:
        side = first.accept()
        side.register()
        done = tmp_path / "done"
        script = f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; touch {done}"
        side.dispatch([{"name": "s", "run": script}])
        side.until("step.status", state="running")
        side.cut()
        first.close()
        (tmp_path / "go").touch()
        wait_for(done.exists)
        wait_for(lambda: not list((tmp_path / "own").glob("kici-*")))
        second = ScriptedWorker(port)
        try:
            side = second.accept()
            assert side.register()["inFlightJobs"] == [{"jobId": "job-1", "runId": "run-1"}]
            assert side.until("job.status", state="success")["jobId"] == "job-1"
        finally:
            agent.close()
            second.close()
    finally:
        agent.close()


@pytest.mark.parametrize("managed", ["0", "1"])
# A96
def test_4010_ends_the_process_with_77(worker, start_agent, managed):
    agent = start_agent(KICI_SCALER_MANAGED=managed)
    worker.accept().connection.close(4010, "Agent labels exceed token-bound scope: x")
    assert agent.wait() == 77
    assert "Agent labels exceed" in agent.errors()


# A99
def test_sigterm_reports_the_running_job_and_kills_its_processes(worker, start_agent, tmp_path):
    agent = start_agent()
    side = worker.accept()
    side.register()
    side.dispatch([{"name": "s", "run": f"echo $$ > {tmp_path}/pid; echo up; sleep 3001"}])
    side.until("log.chunk", stepIndex=0)
    agent.signal(signal.SIGTERM)
    end = side.until("job.status", state="failed", timeout_s=5)
    assert end["data"]["error"] == "agent was stopped"
    assert agent.wait(5) == 1
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


# A95 A99
def test_sigterm_does_not_wait_for_the_grace_time_of_a_cancel(worker, start_agent):
    """The KILL behind the SIGTERM comes after 5 s, as long as a cancel's grace time."""
    agent = start_agent()
    side = worker.accept()
    side.register()
    side.dispatch([{"run": "trap '' TERM; echo up; while true; do sleep 0.1; done"}])
    side.until("log.chunk", stepIndex=0)
    cancel = {"messageId": "c", "runId": "run-1", "jobId": "job-1", "reason": "by me"}
    side.send("job.cancel", **cancel)
    side.send("fleet.logs.request", requestId="q", logWindowHours=1, maxBytes=1)
    side.until("fleet.bundle.chunk")  # so the cancel was read
    agent.signal(signal.SIGTERM)
    end = side.until("job.status", state="cancelled", timeout_s=3.5)
    assert end["data"]["error"] == "by me"
    assert agent.wait(2) == 1


# A91
def test_sigusr1_lets_the_job_end_and_then_leaves(worker, start_agent, tmp_path):
    agent = start_agent()
    side = worker.accept()
    side.register()
    script = f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done"
    side.dispatch([{"name": "s", "run": script}])
    side.until("step.status", state="running")
    agent.signal(signal.SIGUSR1)

    def refused():
        side.dispatch([{"name": "s", "run": "true"}], jobId="other")
        return side.until("job.reject")["reason"] == "draining"

    wait_for(refused)
    (tmp_path / "go").touch()
    side.until("job.status", state="success")
    assert agent.wait() == 0


def test_sigterm_when_idle_leaves_at_once_with_zero(worker, start_agent):
    agent = start_agent()
    worker.accept().register()
    agent.signal(signal.SIGTERM)
    assert agent.wait(3) == 0


def test_a_wrong_configuration_names_every_problem_and_exits_with_two(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "kici.cli.agent"],
        env={
            "PYTHONPATH": str(ROOT),
            "PATH": "/nowhere",
            "KICI_ORCHESTRATOR_URL": "http://x",
            "KICI_AGENT_TOKEN": "kat_secret",
            "KICI_LABLES": "x",
            "KICI_JOB_HEARTBEAT_INTERVAL_MS": "soon",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    for word in ("KICI_ORCHESTRATOR_URL", "did you mean KICI_LABELS", "HEARTBEAT", "git", "bash"):
        assert word in done.stderr
    assert "kat_secret" not in done.stderr


@pytest.mark.parametrize(
    "variable", ["KICI_PORT", "KICI_MAX_LOG_SIZE_BYTES", "KICI_SCALER_IDLE_TIMEOUT"]
)
def test_digits_of_another_script_are_no_number(variable):
    environ = {"KICI_ORCHESTRATOR_URL": "ws://w:4000/ws", variable: "٤٠٠٠"}
    with pytest.raises(ConfigError) as caught:
        read_settings(environ, find=lambda tool: tool)
    assert [problem.where for problem in caught.value.problems] == [variable]
    environ[variable] = "4000"
    assert read_settings(environ, find=lambda tool: tool)


def test_help_says_what_it_is_and_names_variables_that_exist():
    done = subprocess.run(
        [sys.executable, "-m", "kici.cli.agent", "--help"],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("usage: kici-agent")
    assert "Runs the jobs" in done.stdout
    assert "example:" in done.stdout
    named = set(re.findall(r"KICI_[A-Z_]+", done.stdout))
    known = set(re.findall(r'"(KICI_[A-Z_]+)"', Path(settings.__file__).read_text()))
    assert len(named) > 8
    assert named <= known
    assert all(len(line) <= 100 for line in done.stdout.splitlines())
