"""Gathering the bundles of agents for the peer, with scripted agents (peer spec 4.18)."""

import contextlib
import os
import time
from pathlib import Path

import gevent
import pytest

from kici.contracts.link.logs import LogsCancel, LogsGathered, LogsRequest
from kici.pool import gathering
from kici.pool.gathering import Gatherings
from kici.protocol.bundle_pieces import BundleFailed

WAIT_S = 5.0
EMPTY_ZIP = b"PK\x05\x06" + bytes(18)


class Agents:
    """``answers`` maps an agent to its bundle, to an error, or to None: it never answers."""

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []

    def agent_ids(self):
        return list(self.answers)

    def collect_logs(self, agent_id, hours, sink, budget, timeout_s):
        self.asked.append((agent_id, hours, timeout_s))
        answer = self.answers.get(agent_id, BundleFailed("not connected", "unreachable"))
        if answer is None:
            gevent.sleep(timeout_s)
            raise BundleFailed("no bundle in time", "timeout")
        if isinstance(answer, Exception):
            raise answer
        budget.take(len(answer))
        sink.write(answer)
        return len(answer)


class Peer:
    """Keeps what is told; the content of each file by agent."""

    def __init__(self):
        self.rows, self.content, self.ends = {}, {}, []

    def tell(self, to, message, fds):
        assert to == "peer"
        if isinstance(message, LogsGathered):
            self.ends.append(message)
            return
        self.rows[message.agent_id] = message
        for fd in fds:
            with os.fdopen(fd, "rb") as file:
                self.content[message.agent_id] = file.read()

    def wait_end(self):
        deadline = time.monotonic() + WAIT_S
        while not self.ends:
            assert time.monotonic() < deadline, self.rows
            gevent.sleep(0.005)
        return self.ends[-1]


def request(request_id="q", agent_ids=None, within_s=0.3):
    return LogsRequest(request_id=request_id, hours=2.0, agent_ids=agent_ids, within_s=within_s)


@pytest.fixture
def peer():
    return Peer()


@pytest.fixture
def gather(tmp_path, peer):
    def begin(agents, *requests):
        gatherings = Gatherings(agents, peer.tell, str(tmp_path))
        for one in requests:
            gatherings.heard(one)
        return gatherings

    yield begin
    assert list(tmp_path.iterdir()) == []
    deadline = time.monotonic() + WAIT_S
    while found := open_files(tmp_path):
        assert time.monotonic() < deadline, f"still open: {found}"
        gevent.sleep(0.005)


def open_files(directory):
    """Files of ours below ``directory``, also those without a name (Linux tells)."""
    found = []
    for entry in Path("/dev/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(os.readlink(entry))
    return [target for target in found if target.startswith(str(directory))]


# A84 A85
def test_each_agent_comes_with_its_file_or_its_reason(gather, peer):
    agents = Agents(
        good=EMPTY_ZIP + b"x" * 100_000,
        silent=None,
        garbage=b"<html>",
        nothing=b"",
        angry=BundleFailed("no logs"),
    )
    gather(agents, request())
    assert peer.wait_end().reason == ""
    assert peer.content == {"good": EMPTY_ZIP + b"x" * 100_000}
    assert {name: row.status for name, row in peer.rows.items()} == {
        "good": "ok",
        "silent": "timeout",
        "garbage": "error",
        "nothing": "error",
        "angry": "error",
    }
    assert peer.rows["good"].n_bytes == 100_022
    assert peer.rows["garbage"].error == "what the agent sent is no ZIP"
    assert [hours for _, hours, _ in agents.asked] == [2.0] * 5


def test_only_those_that_are_named_are_asked(gather, peer):
    agents = Agents(one=EMPTY_ZIP, two=EMPTY_ZIP)
    gather(agents, request(agent_ids=("two", "away")))
    peer.wait_end()
    assert sorted(peer.rows) == ["away", "two"]
    assert peer.rows["away"].status == "unreachable"


def test_agents_beyond_the_bounds_are_left_out_and_counted(gather, peer, monkeypatch):
    monkeypatch.setattr(gathering, "MAX_ASKED", 2)
    monkeypatch.setattr(gathering, "MAX_AGENTS", 4)
    silent = {f"a{n}": None for n in range(6)}
    began = time.monotonic()
    gather(Agents(**silent), request())
    assert peer.wait_end().reason == "2 agents above 4 were not asked"
    assert time.monotonic() - began < 2.0
    assert [row.status for row in peer.rows.values()] == ["timeout"] * 4


def test_all_bundles_together_are_bounded(gather, peer, monkeypatch):
    monkeypatch.setattr(gathering, "MAX_TOTAL_BYTES", 50)
    gather(Agents(one=EMPTY_ZIP, two=EMPTY_ZIP, three=EMPTY_ZIP), request())
    peer.wait_end()
    assert sorted(row.status for row in peer.rows.values()) == ["error", "ok", "ok"]


def test_a_cancelled_request_ends_in_silence(gather, peer):
    gatherings = gather(Agents(silent=None), request(within_s=60.0))
    gevent.sleep(0.01)
    gatherings.heard(LogsCancel(request_id="q"))
    gatherings.heard(LogsCancel(request_id="unknown"))
    gevent.sleep(0.01)
    assert (peer.rows, peer.ends) == ({}, [])


def test_too_many_requests_at_once_are_refused(gather, peer):
    many = [request(f"q{n}", within_s=60.0) for n in range(gathering.MAX_REQUESTS + 1)]
    gatherings = gather(Agents(silent=None), *many)
    assert "already" in peer.wait_end().reason
    assert peer.ends[0].request_id == "q4"
    gatherings.stop()


def test_a_directory_that_takes_no_file_is_the_agents_reason(gather, peer):
    gatherings = gather(Agents(one=EMPTY_ZIP))
    gatherings._directory = "/nonexistent"
    gatherings.heard(request())
    peer.wait_end()
    assert "No such file" in peer.rows["one"].error
