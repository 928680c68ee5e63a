"""The acceptor's machine against a scripted dialer and against our own dialer's machine."""

import itertools
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from kici.contracts.wire.peer.heartbeat import HeartbeatReceived
from kici.contracts.wire.peer.jobs import JobRerouteAck, PeerJobCancel
from kici.protocol import handshake
from kici.protocol.coordinator_actions import (
    HEARTBEAT_INTERVAL_S,
    STALE_AFTER_S,
    AcceptorSettings,
    Decide,
    Failed,
    Heard,
    Joined,
    Left,
    Phase,
)
from kici.protocol.coordinator_auth import (
    Accepted,
    Credential,
    DoorError,
    Refused,
    decide,
    token_hash,
)
from kici.protocol.coordinator_auth import Joined as JoinedRow
from kici.protocol.coordinator_session import AUTH_TIMEOUT_S, MAX_UNDECRYPTABLE, CoordinatorSession
from kici.protocol.machine import Close, Note, Send
from tests.support.dialer import Dialer, agent

SETTINGS = AcceptorSettings(instance_id="coord-1", software_version="0.1.0")
CREDENTIAL = "cd" * 32
TOKEN = (
    "kici_join_v1.eyJvcmdJZCI6ImRlZmF1bHQiLCJyb3V0aW5nS2V5IjoiZGVmYXVsdCIsImV4cGlyeSI6MTg5MzQ1NjAw"
    "MDAwMCwicm9sZSI6IndvcmtlciJ9.c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf"
)


class MemoryDoor:
    """One token and one credential, in memory."""

    def __init__(self, *, credential=CREDENTIAL, broken=False):
        self.stored = credential
        self.broken = broken
        self.joins = []

    def credential(self, instance_id):
        if self.broken:
            raise DoorError("disk I/O error")
        if instance_id != "worker-7" or self.stored is None:
            return None
        return Credential(handshake.credential_hash(self.stored), "worker")

    def token_hashes(self, routing):
        return [token_hash(TOKEN)] if routing == TOKEN.split(".")[1] else []

    def join(self, hashed, instance_id, claimed):
        self.joins.append(instance_id)
        return JoinedRow("worker", "ab" * 32) if hashed == token_hash(TOKEN) else "Invalid token"

    def welcomed(self, instance_id):
        """Nothing to note."""


class Acceptor:
    """The session with its shell's part done by hand."""

    def __init__(self, door=None, settings=SETTINGS):
        numbers = itertools.count(1)
        self.door = door or MemoryDoor()
        self.now = 100.0
        self.session = CoordinatorSession(
            settings,
            X25519PrivateKey.generate(),
            lambda n: next(numbers).to_bytes(n, "big"),
            lambda: 1_772_352_930_123,
        )
        self.settings = settings
        self.hello = self.session.start(self.now)[0].text

    def receive(self, frame):
        """Actions; a ``Decide`` is carried out."""
        actions = self.session.receive(frame, self.now)
        for action in actions:
            if isinstance(action, Decide):
                return self.decided(action)
        return actions

    def decided(self, asked):
        minimum = self.settings.min_protocol_version
        verdict = decide(asked.request, asked.nonce, asked.transcript, minimum, self.door)
        return self.session.decided(verdict, self.now)

    def tick(self, after):
        self.now += after
        return self.session.tick(self.now)

    def joined(self, dialer=None):
        """Go through the handshake; the dialer."""
        dialer = dialer or Dialer(credential=CREDENTIAL)
        response, request = dialer.answer(self.hello)
        assert self.receive(response) == []
        self.actions = self.receive(request)
        self.answer = dialer.verdict(sent(self.actions)[0])
        return dialer


def sent(actions):
    return [action.text for action in actions if isinstance(action, Send)]


def closes(actions):
    return [(action.code, action.reason) for action in actions if isinstance(action, Close)]


def kinds(actions):
    return [type(action) for action in actions]


# C1
def test_hello_is_the_first_frame_with_fresh_key_and_nonce():
    first, second = Acceptor(), Acceptor()
    hello = json.loads(first.hello)
    assert hello["type"] == "peer.hello"
    assert hello["authSchemes"] == ["mutual-v2"]
    assert len(handshake.decode_nonce(hello["nonce"])) == 32
    assert hello["ephemeralPublicKey"] != json.loads(second.hello)["ephemeralPublicKey"]


# C2
def test_first_frame_that_is_not_json_is_ignored_and_wrong_json_closes():
    acceptor = Acceptor()
    assert acceptor.receive("not json") == []
    assert acceptor.receive(b"\xff\xfe") == []
    assert closes(acceptor.receive('{"type":"peer.heartbeat"}')) == [
        (4003, "Expected hello response")
    ]


# C2
def test_silence_closes_after_fifteen_seconds():
    acceptor = Acceptor()
    assert acceptor.tick(AUTH_TIMEOUT_S - 0.1) == []
    assert closes(acceptor.tick(0.1)) == [(4002, "Auth timeout")]


# C3
@pytest.mark.parametrize("raw", [bytes(32), bytes([1]) + bytes(31), b"short"])
def test_unusable_public_key_is_refused(raw):
    import base64

    key = base64.b64encode(handshake.SPKI_PREFIX + raw).decode()
    frame = json.dumps({"type": "peer.hello.response", "ephemeralPublicKey": key})
    assert closes(Acceptor().receive(frame)) == [(4003, "Key derivation failed")]


# C4
@pytest.mark.parametrize(
    ("make", "close", "counted"),
    [
        (lambda dialer: "AAAA" * 20, (4001, "Decryption failed"), True),
        (lambda dialer: dialer.seal(b"{"), (4003, "Invalid auth format"), False),
        (lambda dialer: dialer.seal({"type": "x"}), (4003, "Invalid auth request"), False),
        (
            lambda dialer: dialer.seal(dialer.request() | {"token": None, "instanceId": 7}),
            (4003, "Invalid auth request"),
            False,
        ),
    ],
)
def test_bad_auth_frame_closes_and_only_undecryptable_ones_count(make, close, counted):
    acceptor, dialer = Acceptor(), Dialer()
    acceptor.receive(dialer.hello_response(acceptor.hello))
    actions = acceptor.receive(make(dialer))
    assert closes(actions) == [close]
    assert (Failed in kinds(actions)) is counted


# C5
def test_low_version_is_refused_with_both_numbers_and_consumes_no_token():
    settings = AcceptorSettings(
        instance_id="coord-1", software_version="0.1.0", min_protocol_version=3
    )
    acceptor = Acceptor(settings=settings)
    acceptor.joined(Dialer(token=TOKEN, protocolVersion=1))
    assert acceptor.answer["reason"] == "Unsupported protocol version: 1 < 3"
    assert closes(acceptor.actions) == [(4005, "Unsupported protocol version: 1 < 3")]
    assert acceptor.door.joins == []
    higher = Acceptor(settings=settings)
    higher.joined(Dialer(token=TOKEN, protocolVersion=9))
    assert higher.answer["accepted"]


# C6
def test_token_join_gets_credential_and_role():
    acceptor = Acceptor()
    acceptor.joined(Dialer(token=TOKEN))
    assert acceptor.answer["sessionCredential"] == "ab" * 32
    assert acceptor.answer["role"] == "worker"
    assert acceptor.answer["instanceId"] == "coord-1"
    assert kinds(acceptor.actions) == [Send, Send, Joined]


# C8
@pytest.mark.parametrize(
    "token", ["x", TOKEN[:-2], TOKEN + "00", TOKEN.upper(), TOKEN[:-2] + "00", "kici_join_v1.."]
)
def test_every_bad_token_gets_the_same_answer(token):
    acceptor = Acceptor()
    acceptor.joined(Dialer(token=token))
    assert acceptor.answer["reason"] == "Invalid token"
    assert closes(acceptor.actions) == [(4001, "Invalid token")]
    assert Failed in kinds(acceptor.actions)


# C10, C13
@pytest.mark.parametrize(
    ("dialer", "reason"),
    [
        ({"credential": "ef" * 32}, "Invalid proof"),
        ({"credential": CREDENTIAL, "instance_id": "worker-8"}, "Unknown credential"),
    ],
)
def test_wrong_or_foreign_credential_is_refused(dialer, reason):
    acceptor = Acceptor()
    acceptor.joined(Dialer(**dialer))
    assert (acceptor.answer["accepted"], acceptor.answer["reason"]) == (False, reason)
    assert closes(acceptor.actions) == [(4001, reason)]


# C10
def test_right_proof_is_accepted_without_a_new_credential():
    acceptor = Acceptor()
    acceptor.joined()
    assert acceptor.answer["accepted"]
    assert "sessionCredential" not in acceptor.answer


# C11
@pytest.mark.parametrize(
    "proof", ["zz", "ä", "0" * 63, "\ud800".encode("utf-8", "replace").decode()]
)
def test_proof_that_is_not_hex_is_refused_without_a_crash(proof):
    acceptor, dialer = Acceptor(), Dialer()
    acceptor.receive(dialer.hello_response(acceptor.hello))
    actions = acceptor.receive(dialer.seal(dialer.request() | {"proof": proof}))
    assert closes(actions) == [(4001, "Invalid proof")]


# C12
def test_neither_token_nor_proof_is_refused():
    acceptor = Acceptor()
    acceptor.joined(Dialer(token=""))
    assert closes(acceptor.actions) == [(4001, "Missing auth method")]


# C14
def test_claimed_role_must_be_the_stored_one():
    acceptor = Acceptor()
    acceptor.joined(Dialer(credential=CREDENTIAL, role="coordinator"))
    assert closes(acceptor.actions) == [(4001, "Role mismatch")]


# C17
def test_frame_before_the_verdict_is_a_mistake():
    acceptor, dialer = Acceptor(), Dialer(credential=CREDENTIAL)
    response, request = dialer.answer(acceptor.hello)
    acceptor.session.receive(response, 100)
    (asked,) = acceptor.session.receive(request, 100)
    late = acceptor.session.receive(dialer.seal(dialer.heartbeat()), 100)
    assert closes(late) == [(4003, "Frame during authentication")]
    assert acceptor.decided(asked) == []


# C22
def test_broken_database_closes_and_does_not_count():
    acceptor, dialer = Acceptor(MemoryDoor(broken=True)), Dialer(credential=CREDENTIAL)
    for frame in dialer.answer(acceptor.hello):
        actions = acceptor.receive(frame)
    assert closes(actions) == [(4001, "Auth error")]
    assert Failed not in kinds(actions)


# C23
def test_heartbeat_follows_acceptance_and_then_every_thirty_seconds():
    acceptor = Acceptor()
    dialer = acceptor.joined()
    assert dialer.open(sent(acceptor.actions)[1])["type"] == "peer.heartbeat"
    assert acceptor.tick(HEARTBEAT_INTERVAL_S - 0.1) == []
    acceptor.receive(dialer.seal(dialer.heartbeat()))
    assert [dialer.open(text)["type"] for text in sent(acceptor.tick(0.1))] == ["peer.heartbeat"]


# C25, C26: the time in the message counts for nothing, any frame proves life.
def test_silence_by_our_own_clock_closes_the_link():
    acceptor = Acceptor()
    dialer = acceptor.joined()
    for _ in range(3):
        assert closes(acceptor.tick(STALE_AFTER_S - 1)) == []
        acceptor.receive(dialer.seal(dialer.heartbeat(timestamp=1)))
    late = dialer.seal(dialer.heartbeat(timestamp=9_999_999_999_999))
    acceptor.receive(late)
    assert closes(acceptor.tick(STALE_AFTER_S)) == [(4004, "Heartbeat timeout")]


# C27
def test_leaving_counts_for_the_own_id_only():
    acceptor = Acceptor()
    dialer = acceptor.joined()
    leaving = {"type": "peer.leaving", "instanceId": "worker-8", "term": 0}
    assert acceptor.receive(dialer.seal(leaving)) == []
    assert acceptor.receive(dialer.seal(leaving | {"instanceId": "worker-7"})) == [Left()]


# C28
def test_heartbeat_with_unknown_and_without_optional_fields_is_heard():
    acceptor = Acceptor()
    dialer = acceptor.joined()
    (action,) = acceptor.receive(dialer.seal(dialer.heartbeat([agent()], odd={"a": 1})))
    assert isinstance(action, Heard)
    assert isinstance(action.message, HeartbeatReceived)


# C30
@pytest.mark.parametrize(
    "message",
    [
        {"type": "job.reroute", "messageId": "m"},
        {"type": "job.progress.ack", "runId": "r", "jobId": "j", "state": "success"},
        {"type": "peer.job.cancel", "runId": "r", "reason": "x"},
        {"type": "raft.vote.request", "term": 1, "candidateId": "c", "lastLogIndex": 0},
        {"type": "peer.agent-token.revoke", "tokenId": "t", "senderInstanceId": "w"},
        {"type": "odd"},
        {"type": "job.reroute.ack", "messageId": 7, "accepted": True},
        {"type": "job.progress", "kind": "job", "runId": "r", "jobId": "j", "jobName": "",
         "stepIndex": 0, "stepName": "", "state": "odd", "timestamp": 1},
    ],
)  # fmt: skip
def test_message_that_a_worker_must_not_send_is_dropped(message):
    acceptor = Acceptor()
    dialer = acceptor.joined()
    assert kinds(acceptor.receive(dialer.seal(message))) == [Note]
    assert acceptor.session.phase is Phase.CONNECTED


def test_ten_undecryptable_frames_in_a_row_close_the_link():
    acceptor = Acceptor()
    dialer = acceptor.joined()
    for _ in range(MAX_UNDECRYPTABLE - 1):
        assert acceptor.receive("AAAA" * 20) == []
    acceptor.receive(dialer.seal(dialer.heartbeat()))
    actions = [acceptor.receive("AAAA" * 20) for _ in range(MAX_UNDECRYPTABLE)]
    assert closes(actions[-1]) == [(4001, "Decryption failed")]


@pytest.mark.parametrize("use", [{"token": TOKEN}, {"credential": CREDENTIAL}])
def test_mutual_authentication_proves_both_ends_and_changes_the_key(use):
    acceptor = Acceptor()
    dialer = acceptor.joined(Dialer(mutual=True, **use))
    assert acceptor.answer["accepted"]
    assert dialer.open(sent(acceptor.actions)[1])["type"] == "peer.heartbeat"
    assert kinds(acceptor.receive(dialer.seal(dialer.heartbeat()))) == [Heard]


@pytest.mark.parametrize(
    ("use", "reason"),
    [
        ({"token": TOKEN[:-2] + "00"}, "Invalid token"),
        ({"credential": "ef" * 32}, "Invalid proof"),
        ({"credential": CREDENTIAL, "instance_id": "worker-8"}, "Unknown credential"),
    ],
)
def test_mutual_authentication_with_a_wrong_secret_is_refused(use, reason):
    acceptor = Acceptor()
    acceptor.joined(Dialer(mutual=True, **use))
    assert acceptor.answer["reason"] == reason


# C57
def test_goodbye_is_said_before_the_close():
    acceptor = Acceptor()
    dialer = acceptor.joined()
    actions = acceptor.session.end(1001, "Server shutting down", leaving=True)
    assert dialer.open(sent(actions)[0])["type"] == "peer.leaving"
    assert closes(actions) == [(1001, "Server shutting down")]
    assert acceptor.session.say(PeerJobCancel(run_id="r", reason="x")) == []


def test_verdicts_of_strangers_change_nothing():
    acceptor = Acceptor()
    assert acceptor.session.decided(Accepted("x", "worker"), 1) == []
    assert acceptor.session.decided(Refused(4001, "x"), 1) == []


def test_answer_to_an_offer_is_heard():
    acceptor = Acceptor()
    dialer = acceptor.joined()
    ack = {"type": "job.reroute.ack", "messageId": "m", "accepted": False, "reason": "busy"}
    expected = JobRerouteAck(message_id="m", accepted=False, reason="busy")
    assert acceptor.receive(dialer.seal(ack)) == [Heard(expected)]
