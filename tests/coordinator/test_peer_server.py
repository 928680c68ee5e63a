"""One connection of the acceptor: its verdicts on a socket that the test holds."""

import logging

import gevent
import pytest
from gevent.queue import Queue

from kici.coordinator.peer_server import PeerConnection
from kici.protocol.coordinator_actions import AcceptorSettings, Failed
from kici.shell.websocket import Disconnected
from tests.protocol.test_coordinator_session import MemoryDoor
from tests.support.dialer import Dialer

LIMIT_S = 10.0


class HeldSocket:
    """The worker's end is two queues."""

    remote = "127.0.0.1:1"
    last_heard_at = 0.0

    def __init__(self):
        self.sent = Queue()
        self.to_read = Queue()
        self.closed_with = None

    def send_text(self, text):
        self.sent.put(text)

    def receive(self, timeout_s=None):
        frame = self.to_read.get(timeout=LIMIT_S)
        if frame is None:
            raise Disconnected(*(self.closed_with or (1006, "")))
        return frame

    def close(self, code=1000, reason="", timeout_s=5.0):
        self.closed_with = (code, reason)
        self.to_read.put(None)

    def abort(self):
        self.close(1006, "aborted")


class Connected:
    """A served connection and what it told its service."""

    def __init__(self, door):
        self.heard = []
        self.socket = HeldSocket()
        self.connection = PeerConnection(
            self.socket,
            "127.0.0.1",
            AcceptorSettings(instance_id="coord-1", software_version="0.1.0"),
            door,
            lambda _, action: self.heard.append(action),
        )
        self.serving = gevent.spawn(self.connection.serve)

    def ask(self, dialer):
        for frame in dialer.answer(self.socket.sent.get(timeout=LIMIT_S)):
            self.socket.to_read.put(frame)


class BuggyDoor(MemoryDoor):
    def credential(self, instance_id):
        raise OverflowError("Python int too large to convert to SQLite INTEGER")


# C22: also for what nobody foresaw; it counts, because the request made it happen.
def test_any_exception_while_deciding_is_a_counted_refusal(caplog):
    one = Connected(BuggyDoor())
    with caplog.at_level(logging.ERROR, "kici.coordinator"):
        one.ask(Dialer(credential="cd" * 32))
        one.serving.join(LIMIT_S)
    assert one.socket.closed_with == (4001, "Auth error")
    assert [type(action) for action in one.heard] == [Failed]
    (record,) = [r for r in caplog.records if r.message == "Authentication failed unexpectedly"]
    assert record.exc_info[0] is OverflowError
    assert one.serving.successful()


# C22
def test_a_broken_database_is_refused_and_not_counted():
    one = Connected(MemoryDoor(broken=True))
    one.ask(Dialer(credential="cd" * 32))
    one.serving.join(LIMIT_S)
    assert one.socket.closed_with == (4001, "Auth error")
    assert one.heard == []


@pytest.mark.parametrize("version", [-(10**400), -1e308], ids=["huge", "large"])
def test_absurd_version_is_answered_at_once(version):
    one = Connected(MemoryDoor())
    one.ask(Dialer(credential="cd" * 32, protocolVersion=version))
    one.serving.join(LIMIT_S)
    assert one.socket.closed_with[0] == 4005
    assert [type(action) for action in one.heard] == [Failed]
