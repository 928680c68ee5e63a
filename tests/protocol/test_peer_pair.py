"""Both ends of the peer link wired in memory: our worker's session, our coordinator's."""

import hashlib
import itertools

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from kici.contracts.wire.peer.heartbeat import HeartbeatReceived, HostFacts
from kici.contracts.wire.peer.jobs import JobProgress
from kici.protocol import handshake
from kici.protocol.coordinator_actions import (
    AcceptorSettings,
    Decide,
    Heard,
    Left,
    Phase,
)
from kici.protocol.coordinator_actions import Joined as PeerJoined
from kici.protocol.coordinator_auth import Credential, decide
from kici.protocol.coordinator_auth import Joined as JoinedRow
from kici.protocol.coordinator_session import CoordinatorSession
from kici.protocol.heartbeat import Advert
from kici.protocol.machine import Close, Send
from kici.protocol.offer_actions import failed
from kici.protocol.peer_actions import Authentication, Choose, Joined, PeerSettings, Refused
from kici.protocol.peer_link import PeerLink, leaving
from kici.protocol.peer_session import PeerSession
from kici.protocol.settings_pull import SettingsPull
from tests.protocol.test_offers import KEY
from tests.protocol.test_peer_session import AGENT, SCALER, TOKEN

OLD, NEW = "ab" * 32, "cd" * 32


class Door:
    """A store with one credential and one token."""

    def __init__(self, credential=OLD):
        self.stored = credential

    def credential(self, instance_id):
        return Credential(handshake.credential_hash(self.stored), "worker") if self.stored else None

    def token_hashes(self, routing):
        return [hashlib.sha256(bytes.fromhex(TOKEN.split(".")[2])).digest()]

    def join(self, token_hash, instance_id, claimed_role):
        return JoinedRow("worker", NEW)

    def welcomed(self, instance_id):
        pass


class Wired:
    """Owns: both machines; ``run`` carries frames until both are silent."""

    def __init__(self, choice, door=None):
        counter = itertools.count(1)

        def entropy(n):
            return next(counter).to_bytes(n, "big")

        self.choice, self.door, self.now = choice, door or Door(), 0.0
        settings = PeerSettings(instance_id="worker-7", software_version="1.0")
        link = PeerLink(
            "ws://c",
            settings,
            SettingsPull(),
            wall=lambda: 1,
            facts=HostFacts,
            new_id=lambda: "id",
        )
        self.worker = PeerSession(settings, link, X25519PrivateKey.generate(), entropy)
        acceptor = AcceptorSettings(instance_id="coord-a", software_version="0.9.1")
        key = X25519PrivateKey.generate()
        self.coordinator = CoordinatorSession(acceptor, key, entropy, lambda: 1)
        self.at_worker, self.at_coordinator = [], []
        self.from_worker(self.worker.start(0.0))
        self.from_coordinator(self.coordinator.start(0.0))

    def from_worker(self, actions):
        for action in actions:
            self.at_worker.append(action)
            if isinstance(action, Send):
                self.from_coordinator(self.coordinator.receive(action.text, self.now))
            elif isinstance(action, Choose):
                self.from_worker(self.worker.authenticate(self.choice, self.now))

    def from_coordinator(self, actions):
        for action in actions:
            self.at_coordinator.append(action)
            if isinstance(action, Send):
                self.from_worker(self.worker.receive(action.text.encode(), self.now))
            elif isinstance(action, Decide):
                verdict = decide(action.request, action.nonce, action.transcript, 1, self.door)
                self.from_coordinator(self.coordinator.decided(verdict, self.now))

    def heard(self, kind):
        return [
            action.message
            for action in self.at_coordinator
            if isinstance(action, Heard) and isinstance(action.message, kind)
        ]


def joined(mode="credential", secret=OLD, door=None):
    return Wired(Authentication(mode=mode, secret=secret), door)


# P13, P15, P30
@pytest.mark.parametrize(
    ("mode", "secret", "new"), [("credential", OLD, None), ("token", TOKEN, NEW)]
)
def test_the_two_ends_join_by_mutual_authentication(mode, secret, new):
    wired = joined(mode, secret)
    assert wired.worker.connected
    assert wired.coordinator.phase is Phase.CONNECTED
    (told,) = [action for action in wired.at_worker if isinstance(action, Joined)]
    assert (told.coordinator_id, told.credential, told.role) == ("coord-a", new, "worker")
    (peer,) = [action for action in wired.at_coordinator if isinstance(action, PeerJoined)]
    assert (peer.instance_id, peer.role) == ("worker-7", "worker")
    (beat,) = wired.heard(HeartbeatReceived)
    assert beat.instance_id == "worker-7"


# P25
@pytest.mark.parametrize(
    ("stored", "reason"), [(NEW, "Invalid proof"), (None, "Unknown credential")]
)
def test_a_wrong_credential_is_refused_with_the_reason_that_deletes_it(stored, reason):
    wired = joined(door=Door(stored))
    assert Refused(reason) in wired.at_worker
    assert not wired.worker.connected
    assert any(isinstance(action, Close) for action in wired.at_coordinator)


# P35, P71
def test_messages_arrive_in_the_coordinator_s_words():
    wired = joined()
    wired.from_worker(wired.worker.advertise(Advert(agents=(AGENT,), draining=True), 1))
    assert wired.heard(HeartbeatReceived)[-1].draining
    wired.from_worker(wired.worker.relay(failed(KEY, "agent lost", 5)))
    (report,) = wired.heard(JobProgress)
    assert (report.state, report.data) == ("failed", {"error": "agent lost"})
    wired.from_worker(wired.worker.relay(leaving("worker-7")))
    assert any(isinstance(action, Left) for action in wired.at_coordinator)


# P33
def test_a_coordinator_that_speaks_mutual_v2_gets_gates_per_label_set():
    wired = joined()
    wired.from_worker(wired.worker.advertise(Advert(scalers=(SCALER,), draining=True), 1))
    entry = msgspec.json.decode(wired.heard(HeartbeatReceived)[-1].scaler_capacity[0])
    assert entry["labelSetMandatoryLabels"] == [[], ["gpu"], []]
    assert "mandatoryLabels" not in entry
