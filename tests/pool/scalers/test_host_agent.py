"""What is known of one agent's processes."""

import os
import subprocess
import sys

import pytest

from kici.pool.scalers.host_agent import HostAgent
from kici.pool.scalers.host_record import AgentDirectory, AgentRecord
from kici.shell import processes


@pytest.fixture
def child():
    made = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield processes.look(made.pid)
    made.communicate(b"\n", timeout=10)


def test_who_is_seen_while_another_greenlet_looks_stays_known(tmp_path, child, monkeypatch):
    """Where there is no /proc each look is a ``ps``, which lets the other one run."""
    record = AgentRecord(agent_id="a1", scaler="bm", owner="none", labels=(), boot="earlier")
    agent = HostAgent(record, AgentDirectory(str(tmp_path), "a1"))
    me = processes.look(os.getpid())
    agent._known[me.pid] = me
    alive = processes.alive

    def slow(one):
        agent._known[child.pid] = child
        return alive(one)

    monkeypatch.setattr(processes, "alive", slow)
    monkeypatch.setattr(processes, "tree", lambda *_, **__: [])
    assert {one.pid for one in agent.members()} == {me.pid, child.pid}
