"""The coordinator was stopped for a while (a debugger, a virtual machine, a full disk's wait):
what could not be heard meanwhile is no silence of the others (C25, C47, C49, C51)."""

import msgspec
import pytest

from kici.contracts.wire.peer.heartbeat import HeartbeatReceived
from kici.contracts.wire.peer.jobs import JobProgress, JobRerouteAck
from kici.coordinator.document import read_document
from kici.coordinator.job import ACK_TIMEOUT_S, HOLDER_GRACE_S
from kici.coordinator.service import Service
from kici.coordinator.settings import CoordinatorSettings
from kici.protocol.coordinator_actions import STALE_AFTER_S, Heard, Joined
from kici.protocol.machine import Close
from tests.coordinator.test_service import FakeConnection
from tests.coordinator.world import native
from tests.protocol.test_coordinator_session import Acceptor
from tests.support.dialer import Dialer

PAUSE_S = 1000.0
TICK_S = 0.5


class Clocked:
    """A service under a clock of the test's, and a job that it has offered to w1."""

    def __init__(self, service, clock):
        self.service, self.clock = service, clock
        self.peer = self.connect()
        spec = read_document({"name": "b", "runs-on": ["linux"], "steps": [{"run": "x"}]})
        self.job = service.dispatcher.submit(spec, None, clock[0])
        (self.reroute,) = self.peer.take("job.reroute")

    def connect(self):
        peer = FakeConnection()
        self.service._hear(peer, Joined("w1", "worker", "0.1.0"))
        beat = msgspec.json.encode(Dialer("w1").heartbeat([native()]))
        self.service._hear(peer, Heard(msgspec.json.decode(beat, type=HeartbeatReceived)))
        return peer

    def pass_time(self, seconds):
        for _ in range(round(seconds / TICK_S)):
            self.clock[0] += TICK_S
            self.service.tick()

    def pause(self):
        self.clock[0] += PAUSE_S
        self.service.tick()

    def accept(self):
        said = JobRerouteAck(message_id=self.reroute["messageId"], accepted=True)
        self.service._hear(self.peer, Heard(said))

    def report(self, state):
        said = JobProgress(
            kind="job", run_id=self.job.run_id, job_id=self.job.job_id, job_name="",
            step_index=0, step_name="", state=state, timestamp=1,
        )  # fmt: skip
        self.service._hear(self.peer, Heard(said))

    @property
    def state(self):
        return self.service.rows.shown(self.job.job_id)["state"]


@pytest.fixture
def clocked(tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("kici.coordinator.service.monotonic", lambda: clock[0])
    service = Service(CoordinatorSettings(data_dir=str(tmp_path / "data")))
    service.tick()
    yield Clocked(service, clock)
    service.store.close()


# C36
def test_answer_that_came_during_the_pause_counts(clocked):
    clocked.pass_time(ACK_TIMEOUT_S - 5)
    clocked.pause()
    assert clocked.state == "offered"
    clocked.accept()
    assert clocked.state == "accepted"


# C47
def test_progress_that_came_during_the_pause_counts(clocked):
    clocked.accept()
    clocked.pause()
    clocked.report("running")
    assert clocked.state == "running"
    assert clocked.peer.take("peer.job.cancel") == []


# C49
def test_worker_that_could_not_come_back_during_the_pause_gets_its_time(clocked):
    clocked.accept()
    clocked.report("running")
    clocked.service._gone(clocked.peer)
    clocked.pass_time(HOLDER_GRACE_S - 10)
    clocked.pause()
    clocked.pass_time(5)
    assert clocked.state == "running"
    clocked.pass_time(5)
    assert clocked.state == "failed"


# C51
def test_cancelled_end_that_came_during_the_pause_counts(clocked):
    clocked.accept()
    clocked.service.dispatcher.cancel(clocked.job.job_id, "x", False, clocked.clock[0])
    clocked.pause()
    assert clocked.state == "cancelling"
    clocked.report("success")
    assert clocked.state == "success"


# C25: what waits in the kernel is read after the tick.
def test_links_are_not_cut_off_for_our_own_pause(clocked):
    acceptor = Acceptor()
    acceptor.now = clocked.clock[0]
    acceptor.session.start(acceptor.now)
    acceptor.joined()
    closes = []

    class Open:
        session = acceptor.session

        def tick(self, now):
            closes.extend(a for a in acceptor.session.tick(now) if isinstance(a, Close))

    clocked.service._open.add(Open())
    clocked.pause()
    assert closes == []
    clocked.pass_time(STALE_AFTER_S - 1)
    assert closes == []
    clocked.pass_time(1)
    assert [close.code for close in closes] == [4004]
