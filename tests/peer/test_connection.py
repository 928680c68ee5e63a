"""What one connection bears from its coordinator without harm to the others."""

from collections import Counter

import gevent
import pytest

from kici.contracts.link import JobKey
from kici.contracts.states import ConnectionState
from kici.peer import connection as module
from kici.peer.connection import Connection
from kici.peer.outflow import Outflow
from kici.peer.spool import Spool
from kici.protocol.heartbeat import Advert
from kici.protocol.machine import Send
from kici.protocol.peer_actions import Refused
from kici.shell.websocket_client import Disconnected

URL = "ws://c:1"
KEY = JobKey(owner=URL, run_id="r", job_id="j")


class Socket:
    """Gives ``frames``, and says when something is written."""

    on_control = None

    def __init__(self, frames=(), on_send=lambda text: None):
        self.frames, self.on_send = list(frames), on_send
        self.closed = None

    def receive(self, timeout_s=None):
        gevent.sleep(0)
        if self.closed or not self.frames:
            raise Disconnected(*(self.closed or (1006, "gone")))
        return self.frames.pop(0)

    def send_text(self, text):
        self.on_send(text)

    def ping(self):
        pass

    def close(self, code, reason, timeout_s=5.0):
        self.closed = (code, reason)

    def abort(self):
        pass


class Link:
    collection = None

    def __init__(self):
        self.due, self.counters = [], Counter()

    def advertise(self, offered, now):
        return []

    def reporting(self, run_id, job_id):
        pass

    def reported(self, run_id, job_id, now):
        self.due.append(job_id)


class Session:
    """Hears what ``receive`` says."""

    state, connected, deadline = ConnectionState.CONNECTED, True, None

    def __init__(self, receive):
        self._receive = receive
        self.link = Link()

    def start(self, now):
        return []

    def receive(self, frame, now):
        return self._receive(frame)

    def relay(self, plaintext):
        return [Send(plaintext.decode())]

    def lost(self, reason, now):
        self.state = ConnectionState.DISCONNECTED


class Anything:
    def __getattr__(self, name):
        return lambda *args, **more: None


class Desk(Anything):
    def report(self, key):
        return b"report"


@pytest.fixture
def connect(tmp_path):
    spool = Spool(tmp_path, [URL], 2**20, lambda: 1)

    def made(socket, receive=lambda frame: []):
        outflow = Outflow(URL, spool, lambda _: None)
        session = Session(receive)
        return Connection(URL, socket, session, outflow, Anything(), Desk(), lambda state: None)

    yield made
    spool.close()


# P10, P68
def test_a_message_that_breaks_the_session_costs_this_connection_and_no_process(connect, caplog):
    def broken(frame):
        raise ZeroDivisionError

    socket = Socket([b"odd", b"never read"])
    with gevent.Timeout(5):
        ending = connect(socket, broken).run(Advert())
    assert (ending.code, ending.reason) == (1000, "Internal error")
    assert socket.closed == (1000, "Internal error")
    assert "broke its session" in caplog.text
    assert "ZeroDivisionError" in caplog.text


# P27
def test_a_coordinator_that_refuses_and_goes_on_talking_is_left_all_the_same(connect, monkeypatch):
    monkeypatch.setattr(module, "_REFUSAL_CLOSE_S", 0.05)

    class Talkative(Socket):
        def receive(self, timeout_s=None):
            gevent.sleep(0.001)
            return b"more"

    connection = connect(Talkative())
    with gevent.Timeout(5):
        connection._perform([Refused("Role mismatch")])
    assert connection._ended == (4001, "Role mismatch")


# P55
def test_the_receipt_of_a_report_is_due_from_when_it_is_written(connect):
    due_while_writing = []
    socket = Socket(on_send=lambda text: due_while_writing.append(list(link.due)))
    connection = connect(socket)
    link = connection.session.link
    assert connection.send_report(KEY)
    assert due_while_writing == [[]]
    assert link.due == ["j"]
