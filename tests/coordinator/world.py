"""Dispatcher, registry and a real database under a clock that the test turns."""

import json

import msgspec

from kici.contracts.wire import encode
from kici.contracts.wire.peer.heartbeat import HeartbeatReceived
from kici.contracts.wire.peer.jobs import JobProgress, JobRerouteAck, ScalerEvent
from kici.coordinator.dispatcher import Dispatcher
from kici.coordinator.document import read_document
from kici.coordinator.jobs import JobRows
from kici.coordinator.logs import Logs
from kici.coordinator.registry import Registry
from kici.coordinator.store import Store
from kici.coordinator.vault import Vault
from kici.protocol.inventory import read_inventory
from tests.support.dialer import Dialer, agent

WALL = 1_772_352_930_000


class FakeLink:
    """A peer's connection that keeps what it is told."""

    address = "127.0.0.1"
    role = "worker"

    def __init__(self):
        self.said = []
        self.open = True
        self.ended = None

    def say(self, message):
        if self.open:
            self.said.append(json.loads(encode(message)))
        return self.open

    def end(self, code, reason):
        self.ended = (code, reason)

    def announce(self, *, draining):
        self.said.append({"draining": draining})

    def take(self, kind):
        """The messages of ``kind`` so far; they are gone then."""
        found = [message for message in self.said if message["type"] == kind]
        self.said = [message for message in self.said if message["type"] != kind]
        return found


class World:
    """``path`` is the data directory; ``restart`` forgets everything but the file."""

    def __init__(self, path):
        self.path = path
        self.now = 1000.0
        self.links = {}
        self._start()

    def _start(self):
        self.store = Store(self.path, lambda: WALL + int(self.now * 1000))
        self.registry = Registry()
        self.rows = JobRows(self.store)
        self.logs = Logs(self.store)
        vault = Vault(self.path)
        self.dispatcher = Dispatcher(self.registry, self.rows, self.logs, vault, "coord-1")
        self.dispatcher.recover(self.now)
        self.links = {}

    def restart(self, *, crash=True):
        """``crash``: what is not committed is lost."""
        if crash:
            self.store.rollback()
        self.store.close()
        self._start()

    def connect(self, name, *agents, backends=None, **more):
        link = self.links[name] = FakeLink()
        self.registry.joined(name, link, "0.1.0", self.now)
        self.dispatcher.joined(name, self.now)
        self.beat(name, *agents, backends=backends, **more)
        return link

    def beat(self, name, *agents, backends=None, **more):
        text = json.dumps(Dialer(name).heartbeat(agents, backends, **more))
        beat = msgspec.json.decode(text, type=HeartbeatReceived)
        self.registry.heartbeat(name, read_inventory(beat), beat.draining, None, self.now)
        self.dispatcher.placement.offer_to(self.registry.get(name), self.now)

    def disconnect(self, name):
        link = self.links[name]
        link.open = False
        assert self.registry.left(name, link, self.now)
        self.dispatcher.left(name, self.now)

    def submit(self, **more):
        document = {"name": "build", "runs-on": ["linux"], "steps": [{"run": "true"}], **more}
        return self.dispatcher.submit(read_document(document), None, self.now)

    def pass_time(self, seconds):
        """Tick once a second."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + 1, end)
            self.dispatcher.tick(self.now)

    def offer(self, name):
        """The one offer that ``name`` got since it was last asked."""
        (reroute,) = self.links[name].take("job.reroute")
        return reroute

    def ack(self, name, reroute, accepted=True, reason=None):
        message = JobRerouteAck(message_id=reroute["messageId"], accepted=accepted, reason=reason)
        self.dispatcher.reports.ack(name, message, self.now)

    def accepted(self, name):
        reroute = self.offer(name)
        self.ack(name, reroute)
        return reroute

    def report(self, name, reroute, state, kind="job", **more):
        made = {
            "kind": kind, "run_id": reroute["runId"], "job_id": reroute["jobId"], "job_name": "",
            "step_index": 0, "step_name": "", "state": state, "timestamp": WALL, **more,
        }  # fmt: skip
        self.dispatcher.reports.progress(name, JobProgress(**made), self.now)

    def scaler_event(self, name, reroute, event, detail="x"):
        made = ScalerEvent(
            run_id=reroute["runId"], job_id=reroute["jobId"], agent_id="a", event_type=event,
            detail=detail, timestamp_ms=1,
        )  # fmt: skip
        self.dispatcher.reports.scaler_event(name, made, self.now)

    def state(self, job):
        return self.rows.shown(job.job_id)["state"]


def native(name="a1", free=1, labels=("linux",), **more):
    return agent(name, (*labels, "runtime:native"), free, **more)
