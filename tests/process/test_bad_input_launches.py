"""Agents that a scaler starts and that are missing, mute, mad or mortal (issue 2, "Bad input")."""

import stat
import subprocess

import pytest

from tests.support.attack import besieged
from tests.support.waiting import wait_for

BODIES = {
    "mute": "exec sleep 600\n",
    "mortal": "echo last words >&2; exit 3\n",
    "mad": "head -c 300000 /dev/urandom; head -c 300000 /dev/urandom >&2; exec sleep 600\n",
    "deaf": "trap '' TERM; while :; do sleep 1; done\n",
}
SCALER = """version: 1
scalers:
- name: host
  type: bare-metal
  maxAgents: 4
  orchestratorUrl: ws://127.0.0.1:1/ws
  labelSets:
"""


@pytest.fixture(scope="module")
def siege(tmp_path_factory):
    root = tmp_path_factory.mktemp("siege")
    text = SCALER
    for name, body in BODIES.items():
        path = root / name
        path.write_text("#!/bin/sh\n" + body)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        text += f"  - {{labels: [{name}], binaryPath: {path}}}\n"
    (root / "plain").write_text("no program")
    text += f"  - {{labels: [plain], binaryPath: {root / 'plain'}}}\n"
    text += f"  - {{labels: [missing], binaryPath: {root / 'missing'}}}\n"
    env = {
        "KICI_SCALER_SPAWN_TIMEOUT_MS": "1500",
        "KICI_QUEUE_TIMEOUT": "6s",
        "KICI_AGENT_AUTH": "token",
    }
    with besieged(root, env=env, scalers=text) as siege:
        yield siege


def strays(siege):
    """Processes that carry the mark of this worker's agents."""
    shown = subprocess.run(["ps", "axeww", "-o", "pid=,args="], capture_output=True, text=True)
    mark = str(siege.house.root)
    return [
        row
        for row in shown.stdout.splitlines()
        if "KICIWORKER_AGENT=" in row and (mark in row or "sleep 600" in row)
    ]


# W100 W120 P37
@pytest.mark.parametrize("kind", ["missing", "plain", *BODIES])
def test_a_job_whose_agent_never_comes_ends_with_the_reason(siege, kind):
    answer = siege.offer(f"job-{kind}", runsOnLabels=[[kind]])
    if answer["accepted"]:
        report = siege.ended(f"job-{kind}", 40)
        assert report["state"] == "failed"
        assert len(report["data"]["error"]) > 10
        assert len(report["data"]["error"]) < 10_000
    else:
        assert answer["reason"]
    wait_for(lambda: not strays(siege), f"{kind} agents reaped: {strays(siege)}", 30)
    siege.unharmed()


# A5 A11
def test_a_token_of_nobody_is_refused_again_and_again(siege):
    for token in ["kat_" + "5" * 64, "", "kat_", "x" * 50_000, "\0", "kat_\ud800"]:
        for _ in range(5):
            agent = siege.stranger()
            agent.say({"type": "auth.request", "token": token, "protocolVersion": 1})
            code, _reason = agent.closed()
            assert code == 4010
    siege.unharmed()
    assert "kat_5555" not in siege.house.worker.log.read_text()


# A6 A7
def test_who_says_nothing_or_the_wrong_thing_first_is_closed(siege):
    agents = [siege.stranger(f"s{n}") for n in range(100)]
    for agent in agents[50:]:
        agent.say({"type": "heartbeat", "timestamp": 1})
    for agent in agents[50:]:
        assert agent.closed()[0] == 4010
    for agent in agents[:50]:
        assert agent.closed()[0] == 4002
    siege.unharmed()
