"""The bare-metal backend as on macOS: no /proc, no control groups, no descriptors of processes.

Real processes, driven as in ``test_host.py``; ``tests/support/without_linux`` takes from the
backend's process what only Linux has, so ``ps`` tells of processes.
"""

import json
import os
import time

import pytest

from kici.config.model import LabelSet, ResourceSpec, Scaler
from kici.pool.scalers import host_start
from kici.pool.scalers.base import LaunchSpec
from kici.shell import processes
from tests.pool.scalers.test_host import MARK, ROOT, Driver, gone

SHIM = ROOT / "tests/support/without_linux"
WAIT_S = 10.0


@pytest.fixture
def drive(tmp_path):
    said = tmp_path / "said"
    environ = {"PYTHONPATH": f"{SHIM}:{ROOT}", "WITHOUT_LINUX": str(said)}
    drivers = []

    def start(body):
        path = tmp_path / "agent.sh"
        path.write_text("#!/bin/bash\n" + body)
        path.chmod(0o755)
        drivers.append(Driver(tmp_path / "state", str(path), environ=environ))
        return drivers[-1]

    yield start
    assert said.read_text(), "nothing was taken away"
    for driver in drivers:
        if driver.process.poll() is None:
            driver.kill()
    for one in processes.tree([], mark=MARK):
        os.kill(one.pid, 9)


def wait_file(path):
    deadline = time.monotonic() + WAIT_S
    while not (path.exists() and path.read_text().strip()):
        assert time.monotonic() < deadline, f"{path} does not come"
        time.sleep(0.02)
    return path.read_text().strip()


# S116 S118
def test_reaping_ends_the_group_and_what_left_the_session(drive, tmp_path):
    driver = drive(
        "trap '' TERM; setsid sleep 1011 & echo $! > one; "
        "(setsid bash -c 'trap \"\" TERM; echo $$ > two; sleep 1012' &) ; "
        "while true; do sleep 1; done"
    )
    started = driver.ask("launch a1")
    assert started["kind"] == "started", started
    assert "process group, limits not enforced" in started["detail"]
    home = tmp_path / "state/agents/a1"
    pids = [int(wait_file(home / name)) for name in ("one", "two")]
    driver.say("reap a1 0.5")
    assert driver.hear()["kind"] == "exited"
    assert [one for one in map(processes.look, pids) if one is not None and not one.zombie] == []
    assert driver.ask("found") == {"found": []}
    assert not home.exists()


# S121
def test_an_agent_outlives_its_worker_is_adopted_and_its_end_is_seen(drive, tmp_path):
    body = "echo $$ > pid; while [ ! -e go ]; do sleep 0.05; done"
    first = drive(body)
    assert first.ask("launch a1")["kind"] == "started"
    home = tmp_path / "state/agents/a1"
    wait_file(home / "pid")
    first.kill()
    second = drive(body)
    assert second.ask("found") == {"found": [["a1", "j"]]}
    second.say("adopt a1")
    (home / "go").touch()
    exited = second.hear()
    assert exited["kind"] == "exited"
    assert "not our child" in exited["detail"]
    assert not home.exists()


def test_the_pid_of_a_dead_agent_that_another_process_has_is_left_alone(drive, tmp_path):
    first = drive("exec sleep 1013")
    assert first.ask("launch a1")["kind"] == "started"
    file = tmp_path / "state/agents/a1/agent.json"
    record = json.loads(file.read_text())
    first.kill()
    os.kill(record["pid"], 9)
    file.write_text(json.dumps({**record, "pid": os.getpid()}))
    assert drive("exec sleep 1013").ask("found") == {"found": []}
    assert not gone(os.getpid())


# S120
def test_no_scope_is_wanted_where_there_is_no_systemd(monkeypatch):
    scaler = Scaler(name="s", type="bare-metal", max_agents=1, label_sets=(), enforce_cgroups=True)
    spec = LaunchSpec(
        agent_id="a1",
        scaler=scaler,
        label_set=LabelSet(labels=("x",), enriched=("x",), binary_path="/bin/true"),
        env={},
        limits=ResourceSpec(cpus=1),
    )
    assert host_start.wants_scope(spec)
    monkeypatch.setattr(host_start, "is_linux", lambda: False)
    assert not host_start.wants_scope(spec)
