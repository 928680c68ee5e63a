"""The order in which a connection sends."""

import gevent
import pytest

from kici.contracts.link import JobKey
from kici.peer.outflow import Outflow
from kici.peer.spool import Frame, Spool
from kici.peer.writer import Writer

URL = "ws://c:1"
KEY, OTHER = (JobKey(owner=URL, run_id="r", job_id=name) for name in ("j", "k"))


class Wire:
    """What went out; the connection is over after ``n_sends``."""

    is_open = True

    def __init__(self, n_sends):
        self.said, self._n_left = [], n_sends

    def send(self, plaintext):
        self.said.append(plaintext)
        self._n_left -= 1
        return self._n_left > 0

    def send_report(self, key):
        return self.send(f"report {key.job_id}".encode())

    def send_ping(self):
        return self.send(b"ping")


@pytest.fixture
def outflow(tmp_path):
    spool = Spool(tmp_path, [URL], 2**20, lambda: 1)
    made = Outflow(URL, spool, lambda _: None)
    made.connected = True
    yield made
    spool.close()


def frame(text, key=KEY):
    return Frame(URL, key.run_id, key.job_id, 1, text)


def written(writer, n_sends):
    wire = Wire(n_sends)
    with gevent.Timeout(5):
        writer.write(wire)
    return wire.said


# P51
def test_a_report_waits_for_its_jobs_frames_and_for_no_others(outflow):
    writer = Writer(outflow)
    outflow.put(frame(b"log of j"), 0)
    outflow.put(frame(b"more of j"), 0)
    writer.report(KEY)
    writer.report(OTHER)
    said = written(writer, 4)
    assert said == [b"report k", b"log of j", b"more of j", b"report j"]


def test_answers_go_first_and_frames_last(outflow):
    writer = Writer(outflow)
    outflow.put(frame(b"log"), 0)
    asking = gevent.spawn(writer.piece, b"piece")
    gevent.idle()
    writer.report(OTHER)
    writer.answer(b"answer")
    assert written(writer, 4) == [b"answer", b"report k", b"piece", b"log"]
    assert asking.get(timeout=5) is True


def test_a_report_asked_for_twice_goes_once(outflow):
    writer = Writer(outflow)
    writer.report(OTHER)
    writer.report(OTHER)
    writer.answer(b"answer")
    outflow.put(frame(b"log"), 0)
    assert written(writer, 3) == [b"answer", b"report k", b"log"]


def test_a_piece_is_not_called_written_when_the_connection_is_over(outflow, monkeypatch):
    monkeypatch.setattr("kici.peer.writer.PIECE_TIMEOUT_S", 0.05)
    writer = Writer(outflow)
    asking = gevent.spawn(writer.piece, b"piece")
    gevent.idle()
    assert written(writer, 1) == [b"piece"]
    assert asking.get(timeout=5) is False


def test_a_coordinator_that_reads_nothing_is_asked_for_a_sign_first(outflow, monkeypatch):
    monkeypatch.setattr(Outflow, "has_room", False)
    writer = Writer(outflow)
    outflow.put(frame(b"log"), 0)
    assert written(writer, 1) == [b"ping"]
