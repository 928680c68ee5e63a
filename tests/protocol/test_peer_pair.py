"""Both ends of a peer link, our own machines, wired in memory: no socket, no sleep."""

import os

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from kici.contracts.link.jobs import JobCancel
from kici.contracts.link.views import AgentSlot
from kici.contracts.states import ConnectionState
from kici.contracts.wire import encode
from kici.contracts.wire.peer import (
    HeartbeatReceived,
    JobProgress,
    JobProgressAck,
    JobRerouteAck,
    PeerJobCancel,
)
from kici.coordinator.document import read_document
from kici.coordinator.reroute import for_send, make_reroute
from kici.protocol.coordinator_actions import AcceptorSettings, Decide, Heard
from kici.protocol.coordinator_actions import Joined as JoinedThere
from kici.protocol.coordinator_auth import decide
from kici.protocol.coordinator_session import CoordinatorSession
from kici.protocol.heartbeat import Advert, HostFacts
from kici.protocol.inventory import read_inventory
from kici.protocol.machine import Close, Send, Tell
from kici.protocol.peer_actions import (
    Authentication,
    Choose,
    Joined,
    Offered,
    PeerSettings,
    Receipted,
    Refused,
)
from kici.protocol.peer_link import PeerLink
from kici.protocol.peer_session import PeerSession
from kici.protocol.settings_pull import SettingsPull
from tests.protocol.test_coordinator_session import CREDENTIAL, TOKEN, MemoryDoor

WALL = 1_772_352_930_123


class Pair:
    """Frames cross until nobody has more to say; each end's other actions are kept."""

    def __init__(self, choice, door=None, version="0.1.0"):
        self.now = 100.0
        self.choice = choice
        self.door = door or MemoryDoor()
        self.there, self.here = [], []
        self.coordinator = CoordinatorSession(
            AcceptorSettings(instance_id="coord-1", software_version=version),
            X25519PrivateKey.generate(), os.urandom, lambda: WALL,
        )  # fmt: skip
        settings = PeerSettings(instance_id="worker-7", software_version="1.0.0")
        link = PeerLink(
            "ws://c", settings, SettingsPull(),
            wall=lambda: WALL, facts=HostFacts, new_id=lambda: "id",
        )  # fmt: skip
        self.worker = PeerSession(settings, link, X25519PrivateKey.generate(), os.urandom)
        self.from_worker(self.worker.start(self.now))
        self.from_coordinator(self.coordinator.start(self.now))

    def from_coordinator(self, actions):
        for action in actions:
            if isinstance(action, Send):
                self.from_worker(self.worker.receive(action.text.encode(), self.now))
            elif isinstance(action, Decide):
                asked = (action.request, action.nonce, action.transcript, 1, self.door)
                self.from_coordinator(self.coordinator.decided(decide(*asked), self.now))
            else:
                self.there.append(action)

    def from_worker(self, actions):
        for action in actions:
            if isinstance(action, Send):
                self.from_coordinator(self.coordinator.receive(action.text, self.now))
            elif isinstance(action, Choose):
                self.from_worker(self.worker.authenticate(self.choice, self.now))
            else:
                self.here.append(action)

    def heard(self, kind):
        return [a.message for a in self.there if isinstance(a, Heard) and type(a.message) is kind]

    def found(self, kind):
        return [action for action in self.here if isinstance(action, kind)]


@pytest.fixture
def pair():
    return Pair(Authentication(mode="credential", secret=CREDENTIAL))


@pytest.mark.parametrize("mode", ["token", "credential"])
def test_both_ends_agree_that_they_are_connected(mode):
    secret = TOKEN if mode == "token" else CREDENTIAL
    pair = Pair(Authentication(mode=mode, secret=secret))
    assert pair.worker.state is ConnectionState.CONNECTED
    (there,) = [a for a in pair.there if isinstance(a, JoinedThere)]
    assert (there.instance_id, there.role) == ("worker-7", "worker")
    (here,) = pair.found(Joined)
    assert here.coordinator_id == "coord-1"
    assert here.credential == ("ab" * 32 if mode == "token" else None)
    assert len(pair.heard(HeartbeatReceived)) == 1


@pytest.mark.parametrize(
    ("mode", "secret", "reason"),
    [
        ("credential", "ef" * 32, "Invalid proof"),
        ("token", TOKEN[:-2] + "00", "Invalid token"),
    ],
)
def test_both_ends_agree_on_a_refusal(mode, secret, reason):
    pair = Pair(Authentication(mode=mode, secret=secret))
    assert [refused.reason for refused in pair.found(Refused)] == [reason]
    assert any(isinstance(a, Close) and a.reason == reason for a in pair.there)
    assert pair.worker.state is not ConnectionState.CONNECTED


# C28: whichever gate form the worker chooses by our version.
@pytest.mark.parametrize("version", ["0.1.24", "0.9.1"])
def test_advertised_agent_is_read_as_it_was_meant(version):
    pair = Pair(Authentication(mode="credential", secret=CREDENTIAL), version=version)
    slot = AgentSlot(
        agent_id="a1", labels=("linux", "runtime:native"), active_jobs=1, max_concurrency=3,
        platform="linux", arch="x64", mandatory_labels=("gpu",), scaler_name=None,
    )  # fmt: skip
    pair.from_worker(pair.worker.advertise(Advert(agents=(slot,)), pair.now))
    pair.now = pair.worker.deadline
    pair.from_worker(pair.worker.tick(pair.now))
    (agent,) = read_inventory(pair.heard(HeartbeatReceived)[-1]).agents
    assert (agent.free, agent.gate) == (2, {"gpu"})


def test_offer_report_receipt_and_cancel_cross_the_link(pair):
    spec = read_document({"name": "b", "runs-on": "linux", "steps": [{"run": "true"}]})
    made = make_reroute(spec, run_id="r", job_id="j", coordinator_id="coord-1")
    pair.from_coordinator(pair.coordinator.say(for_send(made, "m-1", ("coord-1",))))
    (offered,) = pair.found(Offered)
    assert (offered.run_id, offered.job_id, offered.message_id) == ("r", "j", "m-1")
    pair.from_worker(pair.worker.relay(encode(JobRerouteAck(message_id="m-1", accepted=True))))
    assert pair.heard(JobRerouteAck)[0].accepted
    report = JobProgress(
        kind="job", run_id="r", job_id="j", job_name="", step_index=0, step_name="",
        state="success", timestamp=1,
    )  # fmt: skip
    pair.from_worker(pair.worker.relay(encode(report)))
    assert pair.heard(JobProgress) == [report]
    ack = JobProgressAck(run_id="r", job_id="j", state="success")
    pair.from_coordinator(pair.coordinator.say(ack))
    assert pair.found(Receipted) == [Receipted("r", "j")]
    pair.from_coordinator(pair.coordinator.say(PeerJobCancel(run_id="r", job_id="j", reason="x")))
    told = [a.message for a in pair.found(Tell) if isinstance(a.message, JobCancel)]
    assert [(order.run_id, order.job_id) for order in told] == [("r", "j")]


def test_offers_after_many_refusals_are_not_refused_for_their_hops(pair):
    spec = read_document({"name": "b", "runs-on": "linux", "steps": [{"run": "true"}]})
    made = make_reroute(spec, run_id="r", job_id="j", coordinator_id="coord-1")
    tried = ("coord-1", *(f"w{n}" for n in range(9)))
    pair.from_coordinator(pair.coordinator.say(for_send(made, "m", tried)))
    assert len(pair.found(Offered)) == 1


def test_hour_of_idleness_keeps_the_link(pair):
    end = pair.now + 3600
    while pair.now < end:
        pair.now = min(pair.worker.deadline, pair.coordinator.deadline)
        pair.from_worker(pair.worker.tick(pair.now))
        pair.from_coordinator(pair.coordinator.tick(pair.now))
    assert pair.worker.state is ConnectionState.CONNECTED
    assert len(pair.heard(HeartbeatReceived)) >= 119
