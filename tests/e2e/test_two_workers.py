"""Two workers on one host: neither touches the other's agents; one dies and comes back."""

import json
import os
import signal

import pytest

from tests.support.house import SCRIPTS, House
from tests.support.waiting import wait_for

SCALERS = """version: 1
machinePools:
  - name: host
    cap: {{maxCpu: 2}}
scalers:
  - name: host
    type: bare-metal
    maxAgents: 4
    machinePool: host
    orchestratorUrl: ws://127.0.0.1:{port}/ws
    labelSets:
      - labels: [linux, "{label}", "runtime:native"]
        binaryPath: {agent}
        resources: {{requests: {{cpus: 1}}}}
"""
LINES = 30
WRITES = f"for i in $(seq {LINES}); do echo line $i; sleep 0.3; done"
WHOLE = [f"line {i}" for i in range(1, LINES + 1)]


@pytest.fixture
def two(tmp_path):
    """Workers ``a`` and ``b`` of one coordinator, with one ledger; b's label is ``b``."""
    houses = []
    for name in ("a", "b"):
        root = tmp_path / name
        root.mkdir()
        env = {
            "KICI_CLUSTER_INSTANCE_ID": f"worker-{name}",
            "KICI_MACHINE_LEDGER_DIR": str(tmp_path / "ledger"),
            "KICI_ADOPT_GRACE": "15s",
        }
        house = House(root, env=env)
        text = SCALERS.format(port=house.port, label=name, agent=SCRIPTS / "kici-agent")
        house.write_scalers(text)
        houses.append(house)
    a, b = houses
    try:
        a.start_coordinator()
        b.link_port = b.coordinator_port = a.coordinator_port
        a.start_worker(a.join_token())
        b.start_worker(a.join_token())
        yield a, b
    finally:
        b.close()
        a.close()
    for house in houses:
        assert not house.agents(), "agents left behind"


def submit(a, label, steps=WRITES):
    return a.submit(f"on-{label}", steps, **{"runs-on": ["linux", label]})


def shares(tmp_path):
    """Agents that have a share of the machine pool, by instance."""
    book = json.loads((tmp_path / "ledger/host.json").read_text())
    return sorted(row["instanceId"] for row in book["reservations"])


# A76, S59
def test_one_worker_dies_and_adopts_its_agent_and_the_other_is_not_touched(two, tmp_path):
    a, b = two
    jobs = {name: submit(a, name) for name in ("a", "b")}
    for job in jobs.values():
        a.wait_log(job, "line 3")
    of_a, of_b = a.agents(), b.agents()
    assert len(of_a) == len(of_b) == 1
    assert shares(tmp_path) == ["worker-a", "worker-b"]
    b.kill_worker()
    assert b.agents() == of_b, "the agent died with its worker"
    b.start_worker()
    wait_for(
        lambda: "Agent came back with its job" in [row.get("message") for row in b.worker.lines()],
        "adopted",
    )
    assert (a.agents(), b.agents()) == (of_a, of_b)
    # The adopted agent still counts: the machine is full, for both.
    assert shares(tmp_path) == ["worker-a", "worker-b"]
    third = submit(a, "a", "echo third")
    for job in jobs.values():
        assert a.wait_end(job)["state"] == "success"
        assert a.log(job, 0) == WHOLE
    assert a.wait_end(third)["state"] == "success"
    wait_for(lambda: not a.agents() and not b.agents(), "all agents are gone")
    wait_for(lambda: shares(tmp_path) == [], "all shares are given back")


def test_what_a_dead_worker_left_behind_is_reaped_by_its_next_start_only(two):
    a, b = two
    job = submit(a, "b", "echo line 1; sleep 300")
    a.wait_log(job, "line 1")
    (agent,) = b.agents()
    b.kill_worker()
    # It ends while nobody watches: directory and record stay.
    os.kill(agent, signal.SIGKILL)
    wait_for(lambda: not b.agents(), "the agent is dead")
    left = list((b.root / "data/scalers").rglob("scaler-bare-metal-*"))
    assert left
    again = submit(a, "a", "echo fine")
    assert a.wait_end(again)["state"] == "success"
    assert all(path.exists() for path in left), "another worker took them away"
    b.start_worker()
    wait_for(lambda: not any(path.exists() for path in left), "leftovers are gone")
    assert a.wait_end(job)["state"] in ("failed", "cancelled")


# S57, S59
def test_a_machine_pool_bounds_both_workers_together(two, tmp_path):
    a, b = two
    jobs = [submit(a, "a"), submit(a, "b")]
    for job in jobs:
        a.wait_log(job, "line 1")
    late = submit(a, "b", "echo late")
    wait_for(lambda: b.status()["queuedJobs"] + b.status()["startingJobs"], "the third waits")
    assert len(a.agents()) + len(b.agents()) == 2
    # A share that is given back on one worker serves the other.
    assert a.api("POST", f"/api/v1/jobs/{jobs[0]}/cancel", {})[0] == 200
    assert a.wait_end(late)["state"] == "success"
    assert a.job(jobs[1])["state"] == "running"
    assert a.wait_end(jobs[1])["state"] == "success"


# S117
def test_agents_of_a_scaler_that_was_removed_while_the_worker_was_down_are_not_forgotten(two):
    a, b = two
    job = submit(a, "b")
    a.wait_log(job, "line 3")
    agents = b.agents()
    b.kill_worker()
    text = b.scalers.read_text().replace("name: host\n    type", "name: other\n    type")
    b.write_scalers(text.replace('"b"', '"elsewhere"'))
    b.start_worker()
    assert a.wait_end(job)["state"] == "success"
    assert a.log(job, 0) == WHOLE
    assert len(agents) == 1
    wait_for(lambda: not b.agents(), "its agent is reaped")
    left = b.root / "data/scalers/agents"
    wait_for(lambda: not list(left.glob("scaler-*")), "nothing is left on disk")
