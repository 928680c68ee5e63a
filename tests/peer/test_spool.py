"""kici/peer/spool.py and outflow.py: order, bound, gap marker, credit."""

import json

import pytest

from kici.peer.outflow import MEMORY_BYTES, WINDOW_BYTES, Outflow
from kici.peer.spool import Frame, Spool
from kici.shell.segments import Segments

A, B = "ws://a", "ws://b"


def frame(text, url=A, job="j", n_lines=1):
    body = {"type": "peer.log.chunk", "runId": "r", "jobId": job, "stepIndex": 3}
    body["lines"] = [{"text": text, "timestamp": 1, "stream": "stdout"}]
    return Frame(url, "r", job, n_lines, json.dumps(body).encode())


@pytest.fixture
def make(tmp_path):
    made = []

    def fresh(limit=2**20):
        made.append(Spool(tmp_path / "spool", (A, B), limit, lambda: 5))
        return made[-1]

    yield fresh
    for spool in made:
        spool.close()


def drain(spool, url=A):
    texts = []
    while (one := spool.first(url)) is not None:
        assert spool.drop(url) == one
        texts.append(json.loads(one.text)["lines"][0]["text"])
    return texts


# P63
def test_frames_come_back_in_order_for_each_coordinator(make, tmp_path):
    spool = make()
    for number in range(100):
        assert spool.append(frame(f"a{number}"))
        assert spool.append(frame(f"b{number}", B))
    assert spool.pending(frame("").key) == 100
    assert drain(spool) == [f"a{number}" for number in range(100)]
    assert drain(spool, B) == [f"b{number}" for number in range(100)]
    assert spool.n_bytes == 0
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_restart_goes_on_where_the_reader_was(make):
    spool = make()
    for number in range(5):
        spool.append(frame(f"{number}"))
    spool.drop(A)
    again = make()
    assert again.pending(frame("").key) == 4
    assert again.n_bytes == spool.n_bytes
    assert drain(again) == ["1", "2", "3", "4"]


# P63
def test_files_are_deleted_as_they_are_read(make, tmp_path):
    spool = make(64 * 2**20)
    big = "x" * 300_000
    for _ in range(20):
        spool.append(frame(big))
    assert len(list((tmp_path / "spool").iterdir())) >= 5
    for _ in range(18):
        spool.drop(A)
    assert len(list((tmp_path / "spool").iterdir())) <= 1


# P63
def test_what_does_not_fit_is_counted_and_said_in_its_place(make):
    spool = make(1000)
    while not spool.is_full:
        spool.append(frame("kept"))
    n_kept = spool.pending(frame("").key)
    for _ in range(7):
        assert not spool.append(frame("lost", n_lines=10))
    assert spool.n_lost_lines == 70
    spool.drop(A)
    spool.drop(A)
    spool.append(frame("after"))
    texts = drain(spool)
    assert texts[: n_kept - 2] == ["kept"] * (n_kept - 2)
    assert "70 log lines are missing" in texts[-2]
    assert texts[-1] == "after"


def test_a_gap_at_the_end_is_said_before_the_terminal_report(make):
    spool = make(0)
    spool.append(frame("lost"))
    outflow = Outflow(A, spool, lambda n: None)
    assert outflow.pending(frame("").key)
    marker = json.loads(outflow.first().text)
    assert (marker["stepIndex"], marker["runId"], marker["jobId"]) == (3, "r", "j")
    assert outflow.sent(0.0) == frame("").key
    assert not outflow.pending(frame("").key)


# P63
def test_a_coordinator_that_keeps_up_needs_no_file_and_credit_returns_when_sent(make, tmp_path):
    refunds = []
    outflow = Outflow(A, make(), refunds.append)
    outflow.connected = True
    outflow.put(frame("one"), 10)
    outflow.put(frame("two"), 20)
    assert refunds == []
    assert outflow.first() == frame("one")
    outflow.sent(0.0)
    outflow.sent(0.0)
    assert refunds == [10, 20]
    assert outflow.is_empty()
    assert list((tmp_path / "spool").iterdir()) == []


# P63, P59
def test_away_means_spooled_with_credit_returned_at_once_and_order_kept(make):
    refunds = []
    outflow = Outflow(A, make(), refunds.append)
    outflow.connected = True
    outflow.put(frame("memory"), 10)
    outflow.disconnected()
    assert sum(refunds) == 10
    outflow.put(frame("spooled"), 20)
    assert sum(refunds) == 30
    outflow.connected = True
    outflow.put(frame("later"), 40)
    texts = []
    while (one := outflow.first()) is not None:
        texts.append(json.loads(one.text)["lines"][0]["text"])
        outflow.sent(0.0)
    assert texts == ["memory", "spooled", "later"]
    assert sum(refunds) == 70


# P63
def test_a_slow_coordinator_with_a_full_spool_holds_credit_back_and_loses_nothing(make):
    refunds, spool = [], make(100_000)
    outflow = Outflow(A, spool, refunds.append)
    outflow.connected = True
    big = "x" * 50_000
    n_put = 0
    while outflow._queued_bytes < MEMORY_BYTES or not spool.is_full:
        outflow.put(frame(big), 50_000)
        n_put += 1
    before = sum(refunds)
    outflow.put(frame(big), 50_000)
    assert sum(refunds) == before
    n_out = 0
    while outflow.first() is not None:
        outflow.sent(0.0)
        n_out += 1
    assert n_out == n_put + 1
    assert spool.n_lost_lines == 0
    assert sum(refunds) == (n_put + 1) * 50_000


# P10, P63
def test_what_one_coordinator_has_not_fetched_holds_back_no_other_s_credit(make):
    """The bound is for all together: full of B's backlog, A's credit must come back."""
    refunds, spool = [], make(100_000)
    away, slow = Outflow(B, spool, lambda n: None), Outflow(A, spool, refunds.append)
    big = "x" * 50_000
    while not spool.is_full:
        away.put(frame(big, B), 50_000)
    slow.connected = True
    n_put = 0
    while slow._withheld == 0:
        slow.put(frame(big), 50_000)
        n_put += 1
    while slow.first() is not None:
        slow.sent(0.0)
    assert spool.is_full
    assert sum(refunds) == n_put * 50_000


# P63
def test_credit_of_what_the_disk_does_not_take_comes_back(make, monkeypatch):
    def full(self, record):
        raise OSError(28, "No space left on device")

    refunds, spool = [], make(10)
    spool.append(frame("of another coordinator", B))
    outflow = Outflow(A, spool, refunds.append)
    outflow.connected = True
    while outflow._queued_bytes < MEMORY_BYTES:
        outflow.put(frame("x" * 50_000), 50_000)
    monkeypatch.setattr(Segments, "append", full)
    outflow.put(frame("lost"), 7)
    assert sum(refunds) == 7
    assert spool.n_lost_lines == 1


def test_step_updates_are_kept_beyond_the_bound(make):
    spool = make(0)
    outflow = Outflow(A, spool, lambda n: None)
    outflow.put(frame("step", n_lines=0), 0)
    assert spool.pending(frame("").key) == 1


def test_what_is_no_spool_file_does_not_prevent_the_start(make, tmp_path):
    spool = make()
    spool.append(frame("one"))
    (path,) = (tmp_path / "spool").iterdir()
    path.write_bytes((8).to_bytes(8, "big") + (3).to_bytes(4, "big") + b"\xc1\xc1\xc1")
    (tmp_path / "spool" / path.name.replace("-1.", "-x.")).write_bytes(b"")
    again = make()
    assert again.first(A) is None
    assert again.append(frame("two"))
    assert drain(again) == ["two"]


def zeros(data):
    return data + bytes(64)


def broken_text(data):
    at = data.rfind(b"ws://a")
    return data[:at] + b"\xff" + data[at + 1 :]


def no_position(data):
    return b"\xff" * 8 + data[8:]


def half(data):
    return data[:-3]


# P63
@pytest.mark.parametrize(
    ("damage", "left"), [(zeros, 3), (half, 2), (broken_text, 0), (no_position, 0)]
)
def test_a_file_that_a_power_cut_damaged_leaves_no_job_waiting(make, tmp_path, damage, left):
    spool = make()
    for number in range(3):
        spool.append(frame(f"a{number}"))
    (path,) = (tmp_path / "spool").iterdir()
    path.write_bytes(damage(path.read_bytes()))
    again = make()
    assert again.pending(frame("").key) == left
    assert drain(again) == [f"a{number}" for number in range(left)]
    assert (again.pending(frame("").key), again.n_bytes) == (0, 0)
    assert again.append(frame("later"))
    assert drain(again) == ["later"]


def texts_of(outflow, now=0.0):
    texts = []
    while (one := outflow.first()) is not None:
        texts.append(json.loads(one.text)["lines"][0]["text"])
        outflow.sent(now)
    return texts


@pytest.fixture
def flow(make):
    made = Outflow(A, make(), lambda n: None)
    made.connected = made.counts_lines = True
    return made


# P63
def test_what_no_pong_has_proven_is_sent_again_before_everything_else(flow):
    for name in ("one", "two", "three"):
        flow.put(frame(name), 1)
    assert texts_of(flow) == ["one", "two", "three"]
    flow.disconnected()
    flow.put(frame("four"), 1)
    assert flow.pending(frame("").key)
    assert texts_of(flow) == ["one", "two", "three", "four"]


def test_a_frame_counts_as_committed_a_second_after_it_was_sent_and_read(flow):
    flow.put(frame("one"), 1)
    texts_of(flow, now=10.0)
    assert flow.wants_ping()
    flow.pinged()
    assert not flow.wants_ping()
    flow.put(frame("two"), 1)
    texts_of(flow, now=11.5)
    flow.ponged(11.5)
    flow.disconnected()
    assert texts_of(flow) == ["two"]


def test_what_was_read_a_moment_ago_is_sent_again_too(flow):
    flow.put(frame("one"), 1)
    texts_of(flow, now=10.0)
    flow.pinged()
    flow.ponged(10.1)
    flow.disconnected()
    assert texts_of(flow) == ["one"]


def test_a_window_of_unproven_bytes_stops_the_writer_until_a_pong(flow):
    flow.put(frame("x" * WINDOW_BYTES), 1)
    assert flow.has_room
    texts_of(flow)
    assert not flow.has_room
    flow.pinged()
    flow.ponged(0.0)
    assert flow.has_room


def test_the_receipt_of_a_jobs_end_is_one_for_its_frames(flow):
    flow.put(frame("mine"), 1)
    flow.put(frame("other", job="k"), 1)
    texts_of(flow)
    flow.ended(frame("").key)
    flow.disconnected()
    assert texts_of(flow) == ["other"]


# P63
def test_unproven_frames_survive_the_death_of_the_process(flow, make):
    flow.put(frame("sent"), 1)
    flow.first()
    flow.sent(0.0)
    flow.put(frame("unsent"), 1)
    flow.disconnected()
    flow.put(frame("later"), 1)
    assert drain(make()) == ["sent", "unsent", "later"]


def test_a_disk_that_refuses_keeps_unproven_frames_in_memory(flow, monkeypatch):
    flow.put(frame("one"), 1)
    texts_of(flow)
    monkeypatch.setattr(flow._spool, "put_back", lambda frames: False)
    flow.disconnected()
    assert texts_of(flow) == ["one"]


# P63
def test_lost_lines_that_are_numbered_leave_a_marker_with_their_numbers(make):
    spool = make(0)
    outflow = Outflow(A, spool, lambda n: None)
    for first in (4, 6):
        body = {"runId": "r", "jobId": "j", "stepIndex": 3, "firstLine": first}
        outflow.put(Frame(A, "r", "j", 2, json.dumps(body).encode()), 1)
    assert outflow.pending(frame("").key)
    marker = json.loads(outflow.first().text)
    assert (marker["firstLine"], marker["nCovered"]) == (4, 4)
    assert "4 log lines are missing" in marker["lines"][0]["text"]
