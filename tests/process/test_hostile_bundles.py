"""Agents that answer a wish for logs badly, against the real pool process (A84, A85)."""

import base64
import os
import threading
from pathlib import Path

import pytest

from kici.contracts.link.lifecycle import Hello
from kici.contracts.link.logs import AgentLogs, LogsCancel, LogsGathered, LogsRequest
from kici.contracts.link.views import AgentView
from tests.support.pool_child import PoolChild
from tests.support.waiting import wait_for

EMPTY_ZIP = b"PK\x05\x06" + bytes(18)


@pytest.fixture
def pool(tmp_path):
    child = PoolChild(tmp_path)
    yield child
    child.close()


def chunk(agent, request, seq, data, *, last=False):
    text = base64.b64encode(data).decode()
    fields = {"requestId": request["requestId"], "seq": seq, "isLast": last, "dataB64": text}
    agent.say("fleet.bundle.chunk", **fields)


def request(pool, request_id="q", within_s=10.0, agent_ids=None):
    pool.peer.tell(
        LogsRequest(request_id=request_id, hours=4, agent_ids=agent_ids, within_s=within_s)
    )


def answers(pool, n):
    """Rows by agent, and the content of their files."""
    rows, content = {}, {}
    for _ in range(n):
        row, fds = pool.peer.hear(AgentLogs)
        rows[row.agent_id] = row
        for fd in fds:
            with os.fdopen(fd, "rb") as file:
                content[row.agent_id] = file.read()
    assert pool.peer.hear(LogsGathered)[0].request_id == "q"
    return rows, content


def open_files(pool):
    found = []
    for entry in Path(f"/proc/{pool.process.pid}/fd").iterdir():
        try:
            found.append(os.readlink(entry))
        except OSError:
            continue
    directory = pool.config.settings.runtime_dir
    return [target for target in found if target.startswith(directory) and "deleted" in target]


# A84 A85
def test_each_bad_answer_costs_its_own_agent_only(pool):
    names = ("good", "silent", "garbage", "gap", "gone", "huge")
    agents = {name: pool.agent(name) for name in names}
    request(pool, within_s=4.0)
    asked = {name: agent.hear("fleet.logs.request") for name, agent in agents.items()}
    chunk(agents["good"], asked["good"], 0, EMPTY_ZIP[:10])
    chunk(agents["good"], asked["silent"], 0, b"PK forged", last=True)
    chunk(agents["good"], asked["good"], 1, EMPTY_ZIP[10:], last=True)
    chunk(agents["garbage"], asked["garbage"], 0, b"<html>no</html>", last=True)
    chunk(agents["gap"], asked["gap"], 1, EMPTY_ZIP, last=True)
    chunk(agents["gone"], asked["gone"], 0, EMPTY_ZIP)
    agents["gone"].close()

    def flood():
        for seq in range(60):
            chunk(agents["huge"], asked["huge"], seq, b"PK\x03\x04".ljust(2**20, b"x"))

    writer = threading.Thread(target=flood)
    writer.start()
    rows, content = answers(pool, len(names))
    writer.join(10)
    assert {name: row.status for name, row in rows.items()} == {
        "good": "ok", "silent": "timeout", "garbage": "error",
        "gap": "error", "gone": "unreachable", "huge": "error",
    }  # fmt: skip
    assert "above" in rows["huge"].error
    assert content == {"good": EMPTY_ZIP}
    # They are agents all the same, and no file is left.
    request(pool, agent_ids=("gap",))
    again = agents["gap"].hear("fleet.logs.request")
    chunk(agents["gap"], again, 0, EMPTY_ZIP, last=True)
    assert answers(pool, 1)[1] == {"gap": EMPTY_ZIP}
    wait_for(lambda: not open_files(pool), "no file is open")


# A85
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc")
@pytest.mark.parametrize("end", [LogsCancel(request_id="q"), Hello(name="peer", pid=2)])
def test_a_peer_that_wants_no_more_leaves_no_file_and_no_question_open(pool, end):
    agent = pool.agent("silent")
    request(pool, within_s=60.0)
    asked = agent.hear("fleet.logs.request")
    chunk(agent, asked, 0, EMPTY_ZIP)
    wait_for(lambda: open_files(pool), "its file is there")
    pool.peer.tell(end)
    wait_for(lambda: not open_files(pool), "no file is open")
    chunk(agent, asked, 1, b"x", last=True)
    agent.close()
    pool.web.hear(AgentView)
    assert pool.process.poll() is None
