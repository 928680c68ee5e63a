"""One accepted connection on a real socket, under ticks of the test's."""

import logging
from time import monotonic

import gevent
import pytest

from kici.coordinator.peer_server import PeerConnection
from kici.protocol.coordinator_actions import STALE_AFTER_S, AcceptorSettings, Failed, Heard
from kici.protocol.coordinator_liveness import FRAME_WITHIN_S
from kici.shell.server_connection import ServerConnection
from tests.protocol.test_coordinator_session import MemoryDoor
from tests.support import raw_websocket
from tests.support.dialer import Dialer
from tests.support.waiting import until

LIMIT_S = 10.0


class Connected:
    """A served connection, its worker's end, and what it told its service."""

    def __init__(self, door):
        self.heard = []
        sock, worker = raw_websocket.connected_pair()
        self.worker = raw_websocket.RawClient(worker, LIMIT_S)
        self.socket = ServerConnection(sock, early=b"", remote="127.0.0.1:1", max_size=25 * 2**20)
        self.connection = PeerConnection(
            self.socket,
            "127.0.0.1",
            AcceptorSettings(instance_id="coord-1", software_version="0.1.0"),
            door,
            lambda _, action: self.heard.append(action),
        )
        self.serving = gevent.spawn(self.connection.serve)

    def ask(self, dialer):
        for frame in dialer.answer(self.worker.frame()[1].decode()):
            self.worker.send(raw_websocket.text(frame))

    def joined(self):
        dialer = Dialer(credential="cd" * 32)
        self.ask(dialer)
        assert dialer.verdict(self.worker.frame()[1].decode())["accepted"]
        until(lambda: self.heard)  # Joined
        self.heard.clear()
        return dialer

    def kinds(self):
        return [type(action) for action in self.heard]

    def end(self):
        self.worker.shut()
        self.serving.join(LIMIT_S)
        assert self.serving.successful()


@pytest.fixture
def connect():
    made = []

    def serve(door=None):
        made.append(Connected(door or MemoryDoor()))
        return made[-1]

    yield serve
    for one in made:
        one.end()


class BuggyDoor(MemoryDoor):
    def credential(self, instance_id):
        raise OverflowError("Python int too large to convert to SQLite INTEGER")


# C22: also for what nobody foresaw; it counts, because the request made it happen.
def test_any_exception_while_deciding_is_a_counted_refusal(connect, caplog):
    one = connect(BuggyDoor())
    with caplog.at_level(logging.ERROR, "kici.coordinator"):
        one.ask(Dialer(credential="cd" * 32))
        assert one.worker.closing() == (4001, "Auth error")
    assert one.kinds() == [Failed]
    (record,) = [r for r in caplog.records if r.message == "Authentication failed unexpectedly"]
    assert record.exc_info[0] is OverflowError


# C22
def test_a_broken_database_is_refused_and_not_counted(connect):
    one = connect(MemoryDoor(broken=True))
    one.ask(Dialer(credential="cd" * 32))
    assert one.worker.closing() == (4001, "Auth error")
    assert one.heard == []


@pytest.mark.parametrize("version", [-(10**400), -1e308], ids=["huge", "large"])
def test_absurd_version_is_answered_at_once(connect, version):
    one, dialer = connect(), Dialer(credential="cd" * 32, protocolVersion=version)
    one.ask(dialer)
    assert "Unsupported" in dialer.verdict(one.worker.frame()[1].decode())["reason"]
    assert one.worker.closing()[0] == 4005
    assert one.kinds() == [Failed]


def report(size):
    return {
        "type": "job.progress", "kind": "job", "runId": "r", "jobId": "j", "jobName": "",
        "stepIndex": 0, "stepName": "", "state": "success", "timestamp": 1,
        "data": {"outputs": {"a": "x" * size}},
    }  # fmt: skip


# C25, C26: a frame of megabytes on a slow uplink takes longer than the silence allowed.
def test_bytes_of_a_frame_that_is_still_coming_prove_life(connect):
    one = connect()
    dialer = one.joined()
    frame = raw_websocket.text(dialer.seal(report(4 * 2**20)))
    quarter = len(frame) // 4
    now = monotonic()
    for part in range(4):
        one.socket.last_heard_at = 0.0
        one.worker.send(frame[part * quarter : (part + 1) * quarter if part < 3 else len(frame)])
        until(lambda: one.socket.last_heard_at > 0)
        # As slow as may be: the next bytes come just before the minute is over.
        one.socket.last_heard_at = now = now + STALE_AFTER_S - 1
        one.connection.tick(now)
        assert one.socket.closed is False
    until(lambda: one.heard)
    assert one.kinds() == [Heard]
    assert one.heard[0].message.state == "success"


# C26
def test_silence_in_the_middle_of_a_frame_closes_the_link(connect):
    one = connect()
    dialer = one.joined()
    heard_at = one.socket.last_heard_at
    one.worker.send(raw_websocket.text(dialer.seal(report(2**20)))[: 2**19])
    until(lambda: one.socket.last_heard_at > heard_at)
    one.connection.tick(one.socket.last_heard_at + STALE_AFTER_S - 1)
    assert one.socket.closed is False
    one.connection.tick(one.socket.last_heard_at + STALE_AFTER_S)
    code = None
    while code != 0x8:
        code, payload = one.worker.frame()
    assert payload[2:] == b"Heartbeat timeout"


# C26: bytes without end are no message.
def test_a_frame_that_never_ends_closes_the_link_in_the_end(connect):
    one = connect()
    one.joined()
    joined_at = now = monotonic()
    while one.connection.session.deadline is not None:
        assert now < joined_at + FRAME_WITHIN_S + 2 * STALE_AFTER_S
        one.socket.last_heard_at = now = now + STALE_AFTER_S / 2
        one.connection.tick(now)
    assert now >= joined_at + FRAME_WITHIN_S
    code = None
    while code != 0x8:
        code, payload = one.worker.frame()
    assert payload[2:] == b"Heartbeat timeout"
