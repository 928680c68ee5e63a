"""Whatever a worker of another make says: nothing raises, nothing but its own jobs changes, and
what can be read afterwards can be shown (C24, C29, C30, C44, C53)."""

import random

import msgspec
import pytest

from kici.coordinator.api import Api
from kici.coordinator.http import Request
from kici.coordinator.service import Service
from kici.coordinator.settings import CoordinatorSettings
from kici.protocol.coordinator_actions import Heard, Joined, Left
from tests.coordinator.test_reports import nested
from tests.coordinator.test_service import FakeConnection
from tests.coordinator.world import native
from tests.protocol.test_coordinator_session import Acceptor

N_MESSAGES = 400
NUMBERS = (
    *(0, 1, -1, 3, 1.5, -0.5, 1e308, -1e308, 5e-324, 10**400, -(10**400)),
    *(2**31, 2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64),
)
TEXTS = ("", "\0", "x" * 5000, "é\u2028\U0001f600", "-1", "٣", "0", "worker-7", "success", "a,b")
STATES = (
    *("pending", "queued", "running", "cancelling", "success", "failed", "skipped", "odd"),
    *("cancelled", "unroutable", "recovering", "timed_out_stale", "drift_dropped"),
)


class Talker:
    """Draws messages; ``ids`` are jobs and runs that exist."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.ids = [("r", "j")]
        self.offers = ["m"]

    def one_of(self, *options):
        return self.random.choice(options)

    def number(self):
        return self.random.choice(NUMBERS)

    def text(self):
        return self.random.choice(TEXTS)

    def value(self, depth=0):
        if depth > 3 or self.random.random() < 0.5:
            return self.one_of(None, True, self.number(), self.text())
        if self.random.random() < 0.1:
            return nested(self.one_of(50, 150, 800))
        keys = ("error", "reason", "message", "logLines", "outputs", "0", "-1", "٣", "")
        if self.random.random() < 0.6:
            return {self.one_of(*keys): self.value(depth + 1) for _ in range(3)}
        return [self.value(depth + 1) for _ in range(3)]

    def data(self):
        keys = ("error", "reason", "logLines", "outputs", "durationMs")
        return {self.one_of(*keys): self.value() for _ in range(3)}

    def message(self):
        make = self.one_of(self.progress, self.progress, self.log, self.beat, self.ack, self.rest)
        said = make()
        for key in list(said):
            if key != "type" and self.random.random() < 0.03:
                said[key] = self.value()
            elif key != "type" and self.random.random() < 0.02:
                del said[key]
        return said

    def about(self):
        run_id, job_id = self.random.choice(self.ids[-3:])
        return {"runId": run_id, "jobId": job_id}

    def progress(self):
        return {
            "type": "job.progress", **self.about(), "kind": self.one_of("job", "step", "step", "x"),
            "jobName": self.text(), "stepIndex": self.number(), "stepName": self.text(),
            "state": self.one_of(*STATES), "timestamp": self.number(), "data": self.data(),
        }  # fmt: skip

    def log(self):
        line = {"text": self.text(), "timestamp": self.number(), "stream": self.text()}
        return {
            "type": "peer.log.chunk", **self.about(), "stepIndex": self.number(),
            "lines": [self.one_of(line, self.text()) for _ in range(self.one_of(0, 1, 4))],
            "timestamp": self.number(), "firstLine": self.number(), "nCovered": self.number(),
        }  # fmt: skip

    def beat(self):
        agents = [native() | {"maxConcurrency": self.number(), "activeJobs": self.number()}]
        agents += [native(f"a{n}") for n in range(3)]
        backend = {
            "name": self.text(), "labelSets": [["linux", "runtime:native"], [self.text()]],
            "maxAgents": self.number(), "activeCount": self.number(),
        }  # fmt: skip
        return {
            "type": "peer.heartbeat", "instanceId": self.text(), "draining": self.one_of(False, 0),
            "agents": agents, "scalerCapacity": [backend, self.value()], "timestamp": self.number(),
            "hostname": self.text(),
        }  # fmt: skip

    def ack(self):
        return {
            "type": "job.reroute.ack", "messageId": self.random.choice(self.offers[-3:]),
            "accepted": self.one_of(True, True, False), "reason": self.text(),
        }  # fmt: skip

    def rest(self):
        return self.one_of(
            {"type": "scaler.event", **self.about(), "agentId": self.text(),
             "eventType": self.one_of("scaler.failed", "scaler.provisioning", self.text()),
             "detail": self.text(), "timestampMs": self.number()},
            {"type": "peer.cache.upload.request", **self.about(), "messageId": self.text(),
             "cacheType": self.text(), "hash": self.text(), "sizeBytes": self.number()},
            {"type": "peer.logs.collect.chunk", "messageId": self.text(), "seq": self.number(),
             "isLast": True, "dataB64": self.text()},
            {"type": "peer.logs.collect.error", "messageId": "m", "message": self.text()},
            {"type": "peer.clusterSettings.request", "messageId": self.text()},
            {"type": "peer.config.reload.response", "messageId": "m", "success": True},
        )  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_no_message_raises_or_leaves_what_cannot_be_shown(tmp_path, seed):
    service = Service(CoordinatorSettings(data_dir=str(tmp_path / "data")))
    api, talker, peer, acceptor = Api(service), Talker(seed), FakeConnection(), Acceptor()
    dialer = acceptor.joined()
    service._hear(peer, Joined("w1", "worker", "0.1.0"))
    ask = Request(b"", {"limit": "1000"}, {})
    document = {"name": "b", "runs-on": ["linux"], "steps": [{"run": "x"}]}
    body = msgspec.json.encode({"job": document})
    for number in range(N_MESSAGES):
        if len(service.dispatcher.placement.jobs) < 3:
            _, made = api.submit(Request(body, {}, {}))
            talker.ids.append((made["runId"], made["jobId"]))
        talker.offers += [offer["messageId"] for offer in peer.take("job.reroute")]
        for action in acceptor.receive(dialer.seal(talker.message())):
            if isinstance(action, Heard | Left):
                service._hear(peer, action)
        if number % 20 == 0:
            service.tick()
            service.flush()
            msgspec.json.encode([api.jobs(ask), api.cluster_peers(ask), api.cluster_health(ask)])
    states = set()
    for _, job_id in talker.ids[1:]:
        one = Request(b"", {}, {"job": job_id})
        shown = api.job(one)
        msgspec.json.encode([shown, api.log(one)])
        states.add(shown[1]["state"])
    assert len(states) > 2, "the talk never reached a job"
    service.store.close()
