"""The whole house with everything taken away that only Linux has (macOS' shape).

``tests/support/without_linux`` removes the calls and hides /proc and /sys from every process
of the worker and its agents; kici/shell/host.py is the one place that decides.
"""

import os
import signal

import pytest

from tests.support.house import ROOT, SCRIPTS, House, alive
from tests.support.waiting import wait_for

SHIM = ROOT / "tests/support/without_linux"


@pytest.fixture
def macos(tmp_path):
    """A started house whose worker and agents find no Linux."""
    said = tmp_path / "said"
    agent = tmp_path / "agent"
    environ = {"PYTHONPATH": f"{SHIM}:{ROOT}", "WITHOUT_LINUX": str(said)}
    exports = "; ".join(f"export {name}={value}" for name, value in environ.items())
    agent.write_text(f'#!/bin/sh\n{exports}\nexec {SCRIPTS}/kici-agent "$@"\n')
    agent.chmod(0o755)
    built = House(tmp_path, env=environ)
    text = built.scalers.read_text()
    built.write_scalers(text.replace(str(SCRIPTS / "kici-agent"), str(agent)))
    try:
        yield built.start()
    finally:
        built.close()
    assert not built.agents(), "agents left behind"


def shimmed(house) -> str:
    return (house.root / "said").read_text()


def test_a_job_runs_is_shown_and_the_worker_stops_clean(macos):
    job = macos.submit("build", "echo from a mac; echo done >&2")
    assert macos.wait_end(job)["state"] == "success"
    assert sorted(macos.log(job, 0)) == ["done", "from a mac"]
    assert f"{macos.worker.pid} " in shimmed(macos)
    assert "kici-agent" in shimmed(macos)
    status = macos.status()
    assert {row["state"] for row in status["processes"]} == {"running"}
    macos.worker.signal(signal.SIGTERM)
    assert macos.worker.wait(10) == 0


def test_a_cancelled_job_leaves_no_process(macos, tmp_path):
    pid_file = tmp_path / "pid"
    job = macos.submit("long", f"sleep 300 & echo $! > {pid_file}; echo started; wait")
    macos.wait_log(job, "started")
    pid = int(pid_file.read_text())
    assert macos.api("POST", f"/api/v1/jobs/{job}/cancel", {})[0] == 200
    assert macos.wait_end(job)["state"] == "cancelled"
    wait_for(lambda: not alive(pid), "the step's own child is gone")


def test_a_job_outlives_the_kill_of_the_pool(macos, tmp_path):
    go = tmp_path / "go"
    job = macos.submit("waits", f"echo started; while [ ! -e {go} ]; do sleep 0.05; done; echo end")
    macos.wait_log(job, "started")
    macos.kill_child("pool")
    go.touch()
    assert macos.wait_end(job)["state"] == "success"
    assert macos.log(job, 0) == ["started", "end"]


def test_children_leave_with_their_supervisor_and_agents_are_adopted(macos, tmp_path):
    go = tmp_path / "go"
    job = macos.submit("waits", f"echo started; while [ ! -e {go} ]; do sleep 0.05; done; echo end")
    macos.wait_log(job, "started")
    children = macos.worker_pids()[1:]
    assert len(children) == 3
    os.kill(macos.worker.pid, signal.SIGKILL)
    macos.worker.wait(10)
    wait_for(lambda: not any(alive(pid) for pid in children), "the children leave")
    macos.start_worker()
    go.touch()
    assert macos.wait_end(job, 60)["state"] == "success"
    assert "end" in macos.log(job, 0)
