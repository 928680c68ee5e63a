"""What happens to log frames whose arrival at the coordinator is not proven."""

import json

import pytest

from kici.contracts.link import JobKey
from kici.contracts.wire import encode
from kici.contracts.wire.peer.jobs import JobProgress, LogLine, PeerLogChunk
from kici.peer.outflow import Outflow
from kici.peer.spool import Frame, Spool
from kici.shell.segments import Segments

URL = "ws://c:1"
KEY = JobKey(owner=URL, run_id="r", job_id="j")


@pytest.fixture
def outflow(tmp_path):
    spool = Spool(tmp_path, [URL], 2**20, lambda: 1)
    made = Outflow(URL, spool, lambda _: None)
    made.connected = True
    yield made
    spool.close()


def log(text, n_lines=1):
    lines = tuple(LogLine(text=text, timestamp=1, stream="stdout") for _ in range(n_lines))
    chunk = PeerLogChunk(run_id="r", job_id="j", step_index=2, lines=lines)
    return Frame(URL, "r", "j", n_lines, encode(chunk))


def step(state):
    told = JobProgress(
        kind="step", run_id="r", job_id="j", job_name="", step_index=2, step_name="s",
        state=state, timestamp=1,
    )  # fmt: skip
    return Frame(URL, "r", "j", 0, encode(told))


def send_all(outflow):
    """What goes out, shortened: the text of the first line, or the state."""
    said = []
    while (frame := outflow.first()) is not None:
        read = json.loads(frame.text)
        said.append(read["lines"][0]["text"] if "lines" in read else read["state"])
        outflow.sent(0.0)
    return said


def broken_after(outflow, *frames, counts_lines):
    outflow.counts_lines = counts_lines
    for frame in frames:
        outflow.put(frame, 0)
    send_all(outflow)
    outflow.disconnected()
    outflow.put(log("later"), 0)
    outflow.connected = True


# P60, P63
def test_a_coordinator_that_counts_lines_gets_unproven_ones_again(outflow):
    broken_after(outflow, log("a"), step("running"), log("b"), counts_lines=True)
    assert send_all(outflow) == ["a", "running", "b", "later"]


# P60, P63
def test_another_coordinator_gets_no_line_twice_and_is_told_how_many_may_be_missing(outflow):
    broken_after(outflow, step("running"), log("a", 3), log("b", 4), counts_lines=False)
    said = send_all(outflow)
    assert said[0] == "running"
    assert said[1].startswith("[kici-worker] up to 7 log lines are missing here")
    assert said[2:] == ["later"]


def test_proven_lines_are_not_doubted(outflow):
    outflow.put(log("a"), 0)
    send_all(outflow)
    outflow.pinged()
    outflow.ponged(0.1)
    outflow.disconnected()
    outflow.connected = True
    assert send_all(outflow) == []


def test_the_end_of_a_job_waits_for_the_word_about_its_doubtful_lines(outflow):
    broken_after(outflow, log("a"), counts_lines=False)
    assert outflow.pending(KEY)
    outflow.first()
    assert outflow.pending(KEY)
    send_all(outflow)
    assert not outflow.pending(KEY)


def test_doubt_survives_a_second_break_with_its_count(outflow):
    broken_after(outflow, log("a", 3), counts_lines=False)
    outflow.first()
    outflow.sent(0.0)
    outflow.disconnected()
    outflow.connected = True
    assert send_all(outflow)[0].startswith("[kici-worker] up to 3 log lines")


# P63
def test_a_gap_that_the_full_disk_cannot_say_is_said_from_memory(outflow, monkeypatch):
    def full(self, record):
        raise OSError("disk full")

    outflow.connected = False
    monkeypatch.setattr(Segments, "append", full)
    outflow.put(log("lost", 5), 0)
    outflow.connected = True
    assert outflow.pending(KEY)
    assert send_all(outflow)[0].startswith("[kici-worker] 5 log lines are missing here")
    assert not outflow.pending(KEY)


# P63
def test_a_doubtful_word_about_a_gap_counts_as_the_lines_it_stands_for(outflow, monkeypatch):
    def full(self, record):
        raise OSError("disk full")

    outflow.connected = False
    monkeypatch.setattr(Segments, "append", full)
    outflow.put(log("lost", 5), 0)
    monkeypatch.undo()
    outflow.connected = True
    assert outflow.pending(KEY)
    send_all(outflow)
    outflow.disconnected()
    outflow.connected = True
    assert send_all(outflow)[0].startswith("[kici-worker] up to 5 log lines")
