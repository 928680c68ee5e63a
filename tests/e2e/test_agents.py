"""Agents of every kind on a real worker: static, warm, short tokens, daemons of jobs."""

import os
import signal

import pytest

from tests.support.command import run_worker
from tests.support.house import SCRIPTS, House, Process, alive
from tests.support.waiting import wait_for

#: Starts a process that leaves its session, its parent and its output behind.
DAEMON = (
    "setsid sh -c 'echo $$ > {file}; exec sleep 600' </dev/null >/dev/null 2>&1 &"
    "while [ ! -s {file} ]; do sleep 0.05; done; echo daemon started; {then}"
)


def agents_shown(house):
    return house.web("GET", "/api/v1/agents")[1]["agents"]


@pytest.fixture
def with_env(tmp_path):
    """Make a house with extra variables; it leaves nothing behind."""
    made = []

    def make(text=None, **env):
        house = House(tmp_path, env=env)
        made.append(house)
        if text:
            house.write_scalers(text.format(port=house.port, agent=SCRIPTS / "kici-agent"))
        return house.start()

    yield make
    for house in made:
        house.close()
        assert not house.agents(), "agents left behind"


# A3, A18, A20, S72
def test_a_static_agent_with_its_own_token_runs_one_job_after_the_other(with_env, tmp_path):
    tokens = tmp_path / "agent-tokens"
    house = with_env(KICI_AGENT_TOKENS_FILE=str(tokens))
    made = run_worker(
        "token",
        "create",
        "--labels",
        "linux,bench",
        "--note",
        "pc",
        KICI_AGENT_TOKENS_FILE=str(tokens),
    )
    assert made.code == 0, made
    token = made.out.split()[0]
    assert token not in tokens.read_text()
    agent = Process(
        [str(SCRIPTS / "kici-agent")],
        {
            "KICI_ORCHESTRATOR_URL": f"ws://127.0.0.1:{house.port}/ws",
            "KICI_AGENT_TOKEN": token,
            "KICI_AGENT_ID": "bench-pc",
            "KICI_LABELS": "linux,bench",
            "KICI_PORT": "0",
            "HOME": str(tmp_path / "home"),
        },
        tmp_path / "agent.log",
    )
    try:
        wait_for(
            lambda: "bench-pc" in [one["agentId"] for one in agents_shown(house)], "registered"
        )
        for name in ("first", "second"):
            job = house.submit(name, f"echo {name}", **{"runs-on": ["linux", "bench"]})
            assert house.wait_end(job)["state"] == "success"
            assert house.log(job, 0) == [name]
        assert agent.running(), "a static agent stays"
        assert token not in house.worker.log.read_text()
    finally:
        agent.signal(signal.SIGTERM)
        try:
            agent.wait(10)
        finally:
            agent.kill()
    wait_for(lambda: not agents_shown(house), "the agent is gone from the list")


# A25
def test_the_life_of_a_token_never_cuts_a_running_job(with_env):
    house = with_env(KICI_AGENT_TOKEN_TTL_MS="1000")
    job = house.submit("long", "for i in 1 2 3 4 5 6; do echo line $i; sleep 0.7; done")
    house.wait_log(job, "line 4")
    # The token is over. The agent must be able to come back with its job all the same.
    house.kill_child("pool")
    assert house.wait_end(job)["state"] == "success"
    assert house.log(job, 0) == [f"line {i}" for i in range(1, 7)]


WARM = """version: 1
defaults:
  resources: {{requests: {{cpus: 0.1}}}}
scalers:
  - name: warm
    type: bare-metal
    maxAgents: 3
    orchestratorUrl: ws://127.0.0.1:{port}/ws
    warmPool: {{enabled: true, size: 1, idleTimeoutSeconds: 300}}
    labelSets:
      - labels: [linux, test, "runtime:native"]
        binaryPath: {agent}
"""


# S86, S87, S88
def test_a_warm_agent_takes_the_job_and_another_takes_its_place(with_env):
    house = with_env(WARM)

    def idle():
        return [one["agentId"] for one in agents_shown(house) if one["state"] == "idle"]

    (first,) = wait_for(idle, "a warm agent is ready")
    job = house.submit("warm", "echo here; sleep 1")
    house.wait_log(job, "here")
    (running,) = house.web("GET", "/api/v1/jobs")[1]["jobs"]
    assert running["agentId"] == first
    wait_for(lambda: [one for one in idle() if one != first], "its place is taken")
    assert house.wait_end(job)["state"] == "success"
    wait_for(lambda: first not in [one["agentId"] for one in agents_shown(house)], "used once")
    assert len(house.agents()) == 1


# S117, A95
@pytest.mark.parametrize("ends", ["cancelled", "success"])
def test_a_daemon_that_left_its_session_does_not_outlive_its_job(house, tmp_path, ends):
    file = tmp_path / "daemon.pid"
    then = "sleep 300" if ends == "cancelled" else "true"
    job = house.submit("forks", DAEMON.format(file=file, then=then))
    house.wait_log(job, "daemon started")
    daemon = int(file.read_text())
    if ends == "cancelled":
        assert alive(daemon)
        assert os.getsid(daemon) == daemon, "it has its own session"
        assert house.api("POST", f"/api/v1/jobs/{job}/cancel", {})[0] == 200
    assert house.wait_end(job)["state"] == ends
    wait_for(lambda: not alive(daemon), "the daemon is gone", 20)
    wait_for(lambda: not house.agents(), "no process of the agent is left", 20)
    # How it was held is said: a cgroup of ours, or the process tree.
    said = [
        row["detail"]
        for row in house.worker.lines()
        if "spawned successfully" in row.get("message", "")
    ]
    assert any("cgroup" in text or "process" in text for text in said), said
