"""kici/protocol/peer_session.py with the acceptor's half written out by hand."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from kici.contracts.link.jobs import JobCancel, SettingsChanged, TokenRevoked
from kici.contracts.link.views import AgentSlot, ScalerSlots
from kici.contracts.states import ConnectionState
from kici.contracts.wire.peer import MAX_FRAME_BYTES, MAX_PLAINTEXT_BYTES
from kici.contracts.wire.peer.heartbeat import HostFacts
from kici.pool.dispatch import read_offer
from kici.protocol import handshake
from kici.protocol.heartbeat import Advert
from kici.protocol.log_collection import Collect
from kici.protocol.machine import Close, Note, Send, Tell
from kici.protocol.peer_actions import (
    Authentication,
    Choose,
    Joined,
    Offered,
    PeerSettings,
    Receipted,
    Refused,
    Replay,
)
from kici.protocol.peer_link import PeerLink
from kici.protocol.peer_session import PeerSession
from kici.protocol.settings_pull import SettingsPull
from tests.support.offers import reroute

TOKEN = "kici_join_v1.eyJ9." + "c0" * 32
AGENT = AgentSlot(
    agent_id="a1",
    labels=("linux",),
    active_jobs=0,
    max_concurrency=1,
    platform="linux",
    arch="x64",
    mandatory_labels=(),
    scaler_name=None,
)
SCALER = ScalerSlots(
    name="s",
    kind="container",
    label_sets=(("linux",), ("gpu",), ("arm",)),
    gates=((), ("gpu",), ()),
    max_agents=4,
    active_count=1,
    spawns_on_local_host=True,
    healthy=True,
    reason="",
)


class Pair:
    """A session and the acceptor's keys."""

    def __init__(self, pull=None):
        self.pull = pull or SettingsPull()
        settings = PeerSettings(instance_id="worker-7", software_version="1.0")
        ids = iter(f"id-{number}" for number in range(100))
        self.link = PeerLink(
            "ws://c",
            settings,
            self.pull,
            wall=lambda: 1772352930123,
            facts=HostFacts,
            new_id=lambda: next(ids),
        )
        private = X25519PrivateKey.generate()
        self.session = PeerSession(settings, self.link, private, lambda n: bytes(n))
        self.private = X25519PrivateKey.generate()
        self.nonce = bytes(32)
        assert self.session.start(0.0) == []

    def hello(self, **extra):
        return {
            "type": "peer.hello",
            "ephemeralPublicKey": handshake.encode_key(self.private),
            "nonce": base64.b64encode(self.nonce).decode(),
        } | extra

    def greet(self, **extra):
        answer, choose = self.session.receive(json.dumps(self.hello(**extra)).encode(), 0.0)
        assert choose == Choose()
        message = json.loads(answer.text)
        assert message["type"] == "peer.hello.response"
        spki = handshake.decode_key(message["ephemeralPublicKey"])
        self.sealer = handshake.Sealer(handshake.session_key(self.private, spki, self.nonce))

    def authenticate(self, mode="credential", secret="ab" * 32):
        actions = self.session.authenticate(Authentication(mode=mode, secret=secret), 0.0)
        (request,) = self.sent(actions)
        return request

    def say(self, message, now=0.0):
        text = message if isinstance(message, bytes) else json.dumps(message).encode()
        return self.session.receive(self.sealer.seal(text, bytes(12)).encode(), now)

    def sent(self, actions):
        return [json.loads(self.sealer.open(a.text)) for a in actions if isinstance(a, Send)]

    def join(self, version="0.9.1", **extra):
        self.greet()
        self.authenticate()
        answer = {"type": "peer.auth.response", "accepted": True, "instanceId": "coord-a"}
        return self.say(answer | {"softwareVersion": version} | extra)


@pytest.fixture
def pair():
    return Pair()


# P6, P12
def test_it_says_nothing_before_hello_and_gives_up_after_15_s(pair):
    assert pair.session.deadline == 15
    assert pair.session.tick(14.9) == []
    (closed,) = pair.session.tick(15)
    assert closed == Close(1000, "Handshake timeout")
    assert pair.session.state is ConnectionState.DISCONNECTED


# P14
@pytest.mark.parametrize("frame", [b"", b"{}", b"[]", b"\xff", b'{"type":"peer.hello"}', b"null"])
def test_what_is_no_hello_is_ignored(pair, frame):
    assert pair.session.receive(frame, 0) == []
    pair.greet(future=[1])


DEEP = "[" * 100_000 + "]" * 100_000


# P14, P68
def test_nothing_that_is_nested_deeply_breaks_a_session(pair):
    hello = json.dumps(pair.hello(x=0)).replace('"x": 0', f'"x": {DEEP}')
    assert pair.session.receive(hello.encode(), 0) == []
    pair.greet()
    pair.authenticate()
    assert pair.say(f'{{"type":"peer.auth.response","accepted":true,"x":{DEEP}}}'.encode()) == []
    assert pair.say({"type": "peer.auth.response", "accepted": True, "instanceId": "c"})


# P68
@pytest.mark.parametrize("version", ["1" * 5000 + ".0", "0." + "9" * 5000, "v", ""])
def test_an_odd_version_of_a_coordinator_is_no_error(pair, version):
    assert any(isinstance(action, Joined) for action in pair.join(version))
    assert pair.session.state is ConnectionState.CONNECTED


# P36, P68
@pytest.mark.parametrize(
    "odd",
    [{"version": 1e30}, {"version": 10**30}, {"settings": {"agentTokenTtlMs": 1e30}},
     {"settings": {"agentTokenTtlMs": 10**400}}, {"settings": {"agentTokenTtlMs": -1}}],
)  # fmt: skip
def test_settings_beyond_all_reason_are_ignored(pair, odd):
    pair.join()
    beat = {"type": "peer.heartbeat", "instanceId": "c", "clusterSettingsVersion": 5}
    (ask,) = pair.sent(pair.say(beat))
    answer = {"type": "peer.clusterSettings.response", "version": 5, "settings": {}}
    assert pair.say(answer | odd | {"messageId": ask["messageId"]}) == []


# P42
@pytest.mark.parametrize("name", ["runId", "jobId", "messageId"])
@pytest.mark.parametrize("value", ["", "x" * 513, "x" * 10_000_000])
def test_an_offer_without_a_name_or_with_an_endless_one_is_refused(pair, name, value):
    pair.join()
    (answer,) = pair.sent(pair.say(reroute("j", "r") | {name: value}))
    assert (answer["accepted"], answer["type"]) == (False, "job.reroute.ack")


@pytest.mark.parametrize("bad", [{"ephemeralPublicKey": "AAAA"}, {"nonce": "AAAA"}])
def test_a_hello_with_unusable_keys_ends_the_attempt(pair, bad):
    (closed,) = pair.session.receive(json.dumps(pair.hello(**bad)).encode(), 0)
    assert closed == Close(1000, "Key derivation failed")


# P15, P16
def test_the_request_by_credential_holds_a_proof_and_no_null(pair):
    pair.greet()
    request = pair.authenticate()
    assert request == {
        "type": "peer.auth.request",
        "instanceId": "worker-7",
        "protocolVersion": 3,
        "softwareVersion": "1.0",
        "role": "worker",
        "proof": handshake.credential_proof(
            handshake.credential_hash("ab" * 32), pair.nonce, "worker-7"
        ),
    }
    assert pair.session.receive(b"AAAA", 1) == []
    assert pair.say({"type": "peer.heartbeat"}) == []


# P16
def test_the_request_by_token_holds_the_token_alone(pair):
    pair.greet()
    request = pair.authenticate("token", TOKEN)
    assert request["token"] == TOKEN
    assert not {"proof", "clientProof", "scheme"} & request.keys()


# P20
def test_without_a_secret_the_connection_is_closed(pair):
    pair.greet()
    noted, closed = pair.session.authenticate(None, 0)
    assert noted.level == "error"
    assert closed == Close(1000, "No auth method")


# P29, P30, P31, P32
def test_acceptance_is_followed_by_a_heartbeat_and_the_replay(pair):
    actions = pair.join(agents=[{"odd": 1}], scalerCapacity="odd", future=1)
    assert any(isinstance(a, Joined) for a in actions)
    (beat,) = pair.sent(actions)
    assert isinstance(actions[-1], Replay)
    assert beat == {
        "type": "peer.heartbeat",
        "instanceId": "worker-7",
        "term": 0,
        "leaderId": None,
        "draining": False,
        "agents": [],
        "capabilities": {"s3LogAccess": False},
        "configVersion": 0,
        "registryVersion": 0,
        "clusterSettingsVersion": 0,
        "timestamp": 1772352930123,
        "version": "1.0",
    }


# P27
def test_a_refusal_is_reported_with_its_reason(pair):
    pair.greet()
    pair.authenticate()
    actions = pair.say({"type": "peer.auth.response", "accepted": False, "reason": "Invalid token"})
    assert Refused("Invalid token") in actions
    assert actions[-1] == Close(1000, "Auth rejected")


# P55, P30, W61, W107
def test_heartbeat_and_replay_come_every_30_s(pair):
    pair.join()
    pair.session.receive(b"x", 29)
    actions = pair.session.tick(30)
    assert pair.sent(actions)[0]["type"] == "peer.heartbeat"
    assert isinstance(actions[-1], Replay)
    assert pair.session.deadline == 60


# P11, W62
def test_90_s_of_silence_end_the_connection(pair):
    pair.join()
    pair.session.tick(89)
    pair.say({"type": "peer.heartbeat", "instanceId": "c"}, 50)
    assert not any(isinstance(a, Close) for a in pair.session.tick(139))
    assert pair.session.tick(140) == [Close(1000, "No frame for 90 s")]


def test_a_report_without_receipt_for_90_s_ends_the_connection(pair):
    pair.join()
    for now in (0, 60):
        pair.link.reporting("r", "j")
        pair.link.reported("r", "j", now)
    pair.say({"type": "peer.heartbeat", "instanceId": "c"}, 80)
    assert pair.session.tick(90) == [Close(1000, "Terminal report not acknowledged")]


# P55
def test_a_receipt_that_is_quicker_than_we_is_not_awaited(pair):
    pair.join()
    pair.link.reporting("r", "j")
    receipt = {"type": "job.progress.ack", "runId": "r", "jobId": "j", "state": "success"}
    pair.say(receipt, 1)
    pair.link.reported("r", "j", 1)
    pair.say({"type": "peer.heartbeat", "instanceId": "c"}, 80)
    assert not any(isinstance(action, Close) for action in pair.session.tick(95))


# P35 P34
def test_changes_go_out_together_and_draining_at_once(pair):
    pair.join()
    assert pair.session.advertise(Advert(agents=(AGENT,)), 5) == []
    assert pair.session.deadline == pytest.approx(5.1)
    (beat,) = pair.sent(pair.session.tick(5.1))
    assert beat["agents"][0]["mandatoryLabels"] == []  # P34
    assert pair.session.advertise(Advert(agents=(AGENT,)), 6) == []
    assert pair.session.deadline == 30
    (beat,) = pair.sent(pair.session.advertise(Advert(agents=(AGENT,), draining=True), 7))
    assert beat["draining"] is True


# P33
@pytest.mark.parametrize("version", ["0.9.0", "0.9.1", "0.16.2-beta", "1.0", None, "odd"])
def test_new_coordinators_get_gates_per_label_set(version):
    pair = Pair()
    pair.join(version)
    pair.session.advertise(Advert(scalers=(SCALER,)), 0)
    (beat,) = pair.sent(pair.session.tick(1))
    (entry,) = beat["scalerCapacity"]
    assert entry["labelSetMandatoryLabels"] == [[], ["gpu"], []]
    assert "mandatoryLabels" not in entry
    allowed = "name type labelSets maxAgents activeCount spawnsOnLocalHost labelSetMandatoryLabels"
    assert entry.keys() <= set(allowed.split())


# P33
@pytest.mark.parametrize("version", ["0.1.24", "0.8.1", "v0.8"])
def test_old_coordinators_get_one_entry_for_each_gate(version):
    pair = Pair()
    pair.join(version)
    pair.session.advertise(Advert(scalers=(SCALER,)), 0)
    (beat,) = pair.sent(pair.session.tick(1))
    shown = [(e["labelSets"], e["mandatoryLabels"]) for e in beat["scalerCapacity"]]
    assert shown == [([["linux"], ["arm"]], []), ([["gpu"]], ["gpu"])]
    assert all("labelSetMandatoryLabels" not in entry for entry in beat["scalerCapacity"])


# P36
def test_settings_are_pulled_once_at_a_time_and_only_newer_ones_adopted():
    pair = Pair()
    pair.join()
    beat = {"type": "peer.heartbeat", "instanceId": "c", "clusterSettingsVersion": 5}
    (ask,) = pair.sent(pair.say(beat))
    assert ask == {"type": "peer.clusterSettings.request", "messageId": "id-0"}
    assert pair.say(beat) == []
    answer = {"type": "peer.clusterSettings.response", "version": 5}
    settings = {"settings": {"agentTokenTtlMs": 60000, "future": 1}}
    assert pair.say(answer | settings | {"messageId": "other"}) == []
    *_, told = pair.say(answer | settings | {"messageId": "id-0"})
    assert told == Tell("pool", SettingsChanged(agent_token_ttl_ms=60000))
    assert pair.say(beat) == []
    (ask,) = pair.sent(pair.say(beat | {"clusterSettingsVersion": 6}))
    assert pair.say(answer | settings | {"messageId": ask["messageId"]}) == []
    old = Pair()
    old.join("0.1.24")
    assert old.say(beat) == []


REROUTE = reroute("j", "r", messageId="m")


# P38
def test_a_reroute_is_handed_over_with_its_ids_and_text(pair):
    pair.join()
    text = json.dumps(REROUTE | {"jobConfig": {"secrets": {"A": "b"}}, "new": 1}).encode()
    assert pair.say(text) == [Offered("r", "j", "m", text)]
    assert "secrets" not in repr(pair.say(text))


# P38
@pytest.mark.parametrize("half", ["\\ud83d", "\\uDE00", "\\uD83Dx"])
def test_a_reroute_with_half_a_character_is_no_worse_than_with_a_whole_one(pair, half):
    """A coordinator in JavaScript cuts a commit's title in the middle of an emoji."""
    pair.join()
    config = {"env": {"TITLE": "?cut"}}
    text = json.dumps(REROUTE | {"jobName": "?cut", "jobConfig": config, "payload": {"a": "?cut"}})
    (offered,) = pair.say(text.replace("?cut", half + " \\ud83d\\ude00 \\\\ud83d").encode())
    spec = read_offer(offered.reroute)
    tail = half[6:] + " \U0001f600 \\ud83d"
    assert spec.job_name == "\ufffd" + tail
    assert spec.fields["job_config"]["env"]["TITLE"] == "\ufffd" + tail


# P41
@pytest.mark.parametrize(
    ("tried", "reason"),
    [(["coord-a", "worker-7"], "Loop detected"), (["a", "b", "c"], "Max hops exceeded")],
)
def test_loops_and_long_ways_are_refused(pair, tried, reason):
    pair.join()
    (ack,) = pair.sent(pair.say(REROUTE | {"triedConnections": tried}))
    expected = {"type": "job.reroute.ack", "messageId": "m", "accepted": False, "reason": reason}
    assert ack == expected


# P56, P67
def test_receipts_cancels_and_revocations_are_passed_on(pair):
    pair.join()
    ack = {"type": "job.progress.ack", "runId": "r", "jobId": "j", "state": "whatever"}
    assert pair.say(ack) == [Receipted("r", "j")]
    cancel = {"type": "peer.job.cancel", "runId": "r", "reason": "why"}
    message = JobCancel(owner="ws://c", run_id="r", job_id=None, reason="why")
    assert pair.say(cancel) == [Tell("pool", message)]
    revoke = {"type": "peer.agent-token.revoke", "tokenId": "t", "senderInstanceId": "c"}
    assert pair.say(revoke) == [Tell("pool", TokenRevoked(token_id="t"))]


# P66
def test_a_wish_for_logs_is_handed_over_once_and_ends_in_time(pair):
    pair.join()
    ask = {
        "type": "peer.logs.collect.request",
        "messageId": "m-19",
        "logWindowHours": 4,
        "includeCoordinatorMesh": False,
        "selection": {"all": True, "agentIds": [], "workerInstanceIds": []},
    }
    assert pair.say(ask, 29.9) == [Collect("m-19", 4.0, None)]
    (refused,) = pair.sent(pair.say(ask | {"messageId": "m-20"}, 29.9))
    assert (refused["type"], refused["messageId"]) == ("peer.logs.collect.error", "m-20")
    now, late = 29.9, []
    while not late and now < 29.9 + 45:
        now = pair.session.deadline
        late = [said for said in pair.sent(pair.session.tick(now)) if "message" in said]
    assert (late[0]["type"], late[0]["messageId"]) == ("peer.logs.collect.error", "m-19")
    assert now < 29.9 + 45
    assert pair.say(ask, now) == [Collect("m-19", 4.0, None)]


# P68
def test_an_invalid_message_of_a_known_type_is_noted_a_few_times(pair):
    pair.join()
    (note,) = pair.say(REROUTE | {"cloneToken": 5, "jobName": "hunter2"})
    assert note.fields["type"] == "job.reroute"
    assert "cloneToken" in note.fields["error"]
    assert "hunter2" not in str(note)
    for _ in range(100):
        pair.say(REROUTE | {"jobId": None})
    assert pair.say(REROUTE | {"jobId": None}) == []


# P68
def test_noise_is_counted_and_answered_by_nothing(pair):
    pair.join()
    for noise in (b"[]", b"{}", b"\xff\xfe", b'{"type":"raft.vote.request"}', b"[" * 5000):
        assert pair.say(noise) == []
    assert pair.link.counters["invalid_messages"] == 5
    for _ in range(9):
        assert all(isinstance(a, Note) for a in pair.session.receive(b"AAAA", 1))
    pair.say({"type": "new"})
    for _ in range(9):
        pair.session.receive(b"AAAA", 1)
    (closed,) = pair.session.receive(b"AAAA", 1)
    assert isinstance(closed, Close)


# P5
def test_the_largest_message_fits_and_a_larger_one_is_dropped(pair):
    pair.join()
    (sent,) = pair.session.relay(b"x" * MAX_PLAINTEXT_BYTES)
    assert len(sent.text) <= MAX_FRAME_BYTES
    (noted,) = pair.session.relay(b"x" * (MAX_PLAINTEXT_BYTES + 1))
    assert isinstance(noted, Note)


# P71
def test_nothing_is_sealed_once_the_connection_is_lost(pair):
    pair.join()
    pair.session.lost("gone", 5)
    assert pair.session.relay(b"{}") == []
    assert pair.session.deadline is None
    assert pair.session.tick(1000) == []
