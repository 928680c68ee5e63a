"""The agent session alone: handshake, gates, answers, bad input, liveness (agent spec)."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kici.contracts.wire.agent.jobs import JobAck
from kici.contracts.wire.agent.session import RegisterAck
from kici.errors import RemoteError
from kici.protocol.agent_actions import Bundled, PingAgent, Registration, Said
from kici.protocol.agent_liveness import DEAD_S, GONE_S, PING_S, UNHEALTHY_S
from kici.protocol.agent_session import AUTH_S, REGISTER_S, SUPERSEDED, AgentSession, Phase
from kici.protocol.machine import Close, Note, Send

TRANSCRIPTS = Path(__file__).parent.parent / "transcripts"
TOKEN = "kat_" + "5" * 64


class Grant(msgspec.Struct, frozen=True):
    token_id: str = "t1"
    labels: tuple[str, ...] | None = ("linux", "gpu")
    mandatory_labels: tuple[str, ...] = ()


def new_session(mode="token", grant=None, agent_id="a1"):
    grant = grant or Grant()
    return AgentSession(
        "c1",
        verify=(lambda token: grant if token == TOKEN else None) if mode == "token" else None,
        bind=lambda grant, claimed, _labels: grant if claimed == agent_id else None,
    )


def auth(token=TOKEN, version=1):
    return json.dumps({"type": "auth.request", "token": token, "protocolVersion": version})


def register(agent_id="a1", labels=("linux",), **extra):
    return json.dumps(
        {"type": "agent.register", "messageId": "m", "agentId": agent_id, "labels": labels} | extra
    )


def sent(actions):
    return [json.loads(action.text) for action in actions if isinstance(action, Send)]


def types(actions):
    return [message["type"] for message in sent(actions)]


def closed(actions):
    """The close of ``actions``, which must be the last of them."""
    assert isinstance(actions[-1], Close)
    return actions[-1].code, actions[-1].reason


def registered(mode="token", **kwargs):
    """A session past its registration, at time 0."""
    session = new_session(mode, **kwargs)
    session.start(0.0)
    if mode == "token":
        session.receive(auth(), 0.0)
    session.receive(register(), 0.0)
    session.registered(RegisterAck(agent_id="a1", labels=("linux",)), 0.0)
    return session


# --- authentication ------------------------------------------------------------------


# A4 W90
def test_a_valid_token_is_answered_auth_success_and_nothing_else():
    session = new_session()
    session.start(0.0)
    assert sent(session.receive(auth(), 1.0)) == [{"type": "auth.success", "connectionId": "c1"}]
    assert session.deadline == 1.0 + REGISTER_S


# A5 W90
def test_a_bad_token_is_answered_auth_failure_and_4010():
    session = new_session()
    session.start(0.0)
    actions = session.receive(auth("kat_" + "6" * 64), 1.0)
    assert sent(actions) == [{"type": "auth.failure", "reason": "Invalid or expired token"}]
    assert closed(actions) == (4010, "Authentication failed")
    assert "6666" not in repr(actions)


# A6
@pytest.mark.parametrize(
    "first", [register(), auth(version=0), auth(version=1.5), auth(token=""), "{", "null", "5"]
)
def test_another_first_frame_than_auth_request_is_4010(first):
    session = new_session()
    session.start(0.0)
    actions = session.receive(first, 1.0)
    assert sent(actions)[0]["reason"] == "First message must be auth.request"
    assert closed(actions) == (4010, "Invalid auth message")


# A7
def test_silence_before_authentication_is_4002_after_5_s():
    session = new_session()
    session.start(100.0)
    assert session.deadline == 100.0 + AUTH_S
    assert session.tick(104.9) == []
    assert session.tick(105.0) == [Close(4002, "Auth timeout")]
    assert session.deadline is None


# A7
@pytest.mark.parametrize("mode", ["token", "none"])
def test_silence_before_registration_is_4002_after_10_s(mode):
    session = new_session(mode)
    session.start(0.0)
    if mode == "token":
        session.receive(auth(), 0.0)
    assert session.tick(9.9) == []
    assert session.tick(10.0) == [Close(4002, "Registration timeout")]


# A8 W91
def test_none_mode_takes_any_auth_request_and_keeps_its_timer():
    session = new_session("none")
    session.start(0.0)
    assert types(session.receive(auth("whatever"), 3.0)) == ["auth.success"]
    assert session.deadline == REGISTER_S
    assert isinstance(session.receive(register(), 4.0)[0], Registration)


# W91
def test_none_mode_registers_without_a_token():
    session = new_session("none")
    session.start(0.0)
    (action,) = session.receive(register(labels=["anything"]), 0.0)
    assert action.grant is None


@pytest.mark.parametrize("frame", [auth(), "{}", '{"type":"heartbeat","timestamp":1}'])
def test_another_frame_than_register_after_auth_is_4003(frame):
    session = new_session()
    session.start(0.0)
    session.receive(auth(), 0.0)
    assert closed(session.receive(frame, 0.0)) == (4003, "First message must be agent.register")


# A18
def test_a_frame_right_behind_auth_request_is_handled_in_turn():
    session = new_session()
    session.start(0.0)
    session.receive(auth(), 0.0)
    assert isinstance(session.receive(register(), 0.0)[0], Registration)


# --- gates ---------------------------------------------------------------------------


def first_registration(frame, mode="token", **kwargs):
    session = new_session(mode, **kwargs)
    session.start(0.0)
    if mode == "token":
        session.receive(auth(), 0.0)
    return session.receive(frame, 0.0)


# A12
@pytest.mark.parametrize("mode", ["token", "none"])
@pytest.mark.parametrize("uid", [None, 1000, -1])
def test_privileged_root_from_another_user_is_4010_in_every_mode(mode, uid):
    extra = {} if uid is None else {"runningAsUid": uid}
    frame = register(labels=["linux", " KICI:privileged:Root"], **extra)
    grant = Grant(labels=None)
    code, reason = closed(first_registration(frame, mode, grant=grant))
    assert code == 4010
    assert "non-root" in reason


# A12
@pytest.mark.parametrize(
    "grant",
    [
        Grant(labels=("linux", "kici:privileged:root")),
        Grant(mandatory_labels=("kici:privileged:root",)),
    ],
)
def test_a_privileged_token_is_for_root_whatever_the_agent_says(grant):
    assert closed(first_registration(register(), grant=grant))[0] == 4010
    (action,) = first_registration(register(runningAsUid=0), grant=grant)
    assert isinstance(action, Registration)


# A10
def test_labels_beyond_the_token_are_4010_and_named():
    frame = register(labels=["linux", "secret-b", "Secret-A"])
    code, reason = closed(first_registration(frame))
    assert (code, reason) == (4010, "Agent labels exceed token-bound scope: secret-a,secret-b")


# A10
def test_self_reported_labels_and_other_spellings_are_within_the_token():
    labels = [" Linux ", "GPU", "kici:os:linux", "KICI:arch:x64", "kici:host:box", "kici:runtime:x"]
    assert isinstance(first_registration(register(labels=labels))[0], Registration)


# A10
def test_an_empty_scope_allows_only_self_reported_labels():
    grant = Grant(labels=())
    assert closed(first_registration(register(), grant=grant))[0] == 4010
    frame = register(labels=["kici:os:linux"])
    assert isinstance(first_registration(frame, grant=grant)[0], Registration)


# A11
def test_a_token_of_another_agent_is_4010():
    code, reason = closed(first_registration(register("a2")))
    assert code == 4010
    assert "another agent" in reason


# A9 A13
def test_what_the_core_refuses_closes_with_its_code():
    session = new_session()
    session.start(0.0)
    session.receive(auth(), 0.0)
    session.receive(register(), 0.0)
    assert session.refused(RemoteError(4003, "taken")) == [Close(4003, "taken")]
    assert session.receive(register(), 0.0) == []


# A15
def test_the_ack_echoes_agent_and_labels():
    session = new_session("none")
    session.start(0.0)
    session.receive(register(), 0.0)
    ack = RegisterAck(agent_id="a1", labels=("B", "a"), scaler_managed=False)
    assert sent(session.registered(ack, 0.0)) == [
        {"type": "register.ack", "agentId": "a1", "labels": ["B", "a"], "scalerManaged": False}
    ]
    assert session.phase is Phase.REGISTERED


def test_a_repeated_register_passes_the_gates_again():
    session = registered()
    (action,) = session.receive(register(labels=["gpu"]), 1.0)
    assert action.again
    assert closed(session.receive(register(labels=["root"]), 1.0))[0] == 4010


def test_a_repeated_register_under_another_id_is_4003():
    session = registered("none")
    assert closed(session.receive(register("a2"), 1.0))[0] == 4003


# --- frames --------------------------------------------------------------------------

IDS = {"messageId": "m", "runId": "r", "jobId": "j"}


def log_chunk(**extra):
    chunk = {"type": "log.chunk", "stepIndex": 0, "lines": ["x"], "timestamp": 1} | IDS | extra
    return json.dumps(chunk)


# A19 A23a
@pytest.mark.parametrize(
    "frame",
    [
        "null",
        "5",
        '"x"',
        "[]",
        "",
        "{",
        "{}",
        '{"type":"nonsense"}',
        '{"type":"auth.request","token":"x","protocolVersion":1}',
        '{"type":"job.dispatch"}',
        b"\xff\xfe",
        "[" * 100_000,
        log_chunk(lines=[1]),
        log_chunk(lines=None),
        log_chunk(lines="text"),
        log_chunk(stepIndex="0"),
        log_chunk(timestamp=10**400),
        json.dumps({"type": "job.ack", **IDS}),
        json.dumps({"type": "agent.register", "messageId": "m", "agentId": "", "labels": []}),
    ],
)
def test_a_malformed_frame_is_answered_error_and_4003(frame):
    actions = registered().receive(frame, 1.0)
    assert sent(actions) == [
        {"type": "error", "code": "INVALID_MESSAGE", "message": "Invalid message format"}
    ]
    assert closed(actions) == (4003, "Invalid message format")


# A19
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["type", "agentId", "labels", "jobId", "x"]), inner, max_size=4
                )
            ),
            max_leaves=12,
        ).map(json.dumps),
    )
)
@settings(max_examples=150, deadline=None)
def test_no_frame_whatsoever_raises(frame):
    registered("none").receive(frame, 1.0)
    fresh = new_session()
    fresh.start(0.0)
    fresh.receive(frame, 1.0)


# A20
def test_unknown_keys_are_ignored():
    frame = json.dumps({"type": "job.ack", "timestamp": 1, "new": {"x": [1]}, **IDS})
    (action,) = registered().receive(frame, 1.0)
    assert action == Said(JobAck(message_id="m", run_id="r", job_id="j", timestamp=1))


# A21 A62
@pytest.mark.parametrize("kind", ["run.event", "job.context"])
@pytest.mark.parametrize("content", [{}, {"runId": 5, "context": None}, {"x": [[{}], "y"]}])
def test_run_event_and_job_context_never_close(kind, content):
    assert registered().receive(json.dumps({"type": kind} | content), 1.0) == []


# A22
@pytest.mark.parametrize(
    "extra",
    [
        {"stepIndex": -1},
        {"lines": []},
        {"lines": ["a\nb", "\x1b[31mred\x1b[0m", "\u2028"]},
        {"stepIndex": 1.5},
        {"stream": "stderr"},
    ],
)
def test_odd_but_legal_log_chunks_are_taken(extra):
    (action,) = registered().receive(log_chunk(**extra), 1.0)
    assert isinstance(action, Said)


def test_half_a_surrogate_pair_is_replaced_not_refused():
    frame = log_chunk(lines=["X"]).replace('"X"', r'"cut \ud83d", "whole \ud83d\ude00", "\\ud83d"')
    (action,) = registered().receive(frame, 1.0)
    assert action.message.lines == ("cut \ufffd", "whole \U0001f600", r"\ud83d")


# A23
def test_a_chunk_of_3_mb_and_300_frames_at_once_are_all_taken():
    session = registered()
    (action,) = session.receive(log_chunk(lines=["y" * 100] * 30_000), 1.0)
    assert len(action.message.lines) == 30_000
    assert sum(len(session.receive(log_chunk(), 1.0)) for _ in range(300)) == 300


def test_a_binary_frame_is_read_like_a_text_frame():
    (action,) = registered().receive(log_chunk().encode(), 1.0)
    assert isinstance(action, Said)


# A62
@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("job.heartbeat", {"runId": "r", "jobId": "j", "timestamp": 1}),
        ("agent.metrics", {"messageId": "m", "agentId": "a1", "metrics": [], "timestamp": 1}),
        ("agent.log", {"messageId": "m", "agentId": "a1", "lines": ["{}"], "timestamp": 1}),
        ("config.ack", {"messageId": "m", "agentId": "a1"}),
    ],
)
def test_informational_messages_reach_the_core_and_are_not_answered(kind, content):
    actions = registered().receive(json.dumps({"type": kind} | content), 1.0)
    assert [type(action) for action in actions] == [Said]


# --- requests that a worker answers itself -------------------------------------------

REQUESTS = [
    # A64
    ({"type": "job.concurrency.report", **IDS, "group": "g"},
     {"type": "job.concurrency.ack", "requestId": "m", "action": "proceed"}),
    ({"type": "event.emit", "jobId": "j", "requestId": "q", "eventName": "e", "payload": {}},
     {"type": "event.emit.response", "requestId": "q", "error": "Event routing not available"}),
    ({"type": "agent.api.request", "requestId": "q", "method": "infrastructure.list"},
     {"type": "agent.api.response", "requestId": "q", "error": "Agent API not available"}),
    ({"type": "cache.user.restore.request", "messageId": "m", "jobId": "j", "key": "k"},
     {"type": "cache.user.restore.response", "requestId": "m", "hit": False}),
    ({"type": "cache.user.save.request", "messageId": "m", "jobId": "j", "key": "k"},
     {"type": "cache.user.save.response", "requestId": "m", "skip": True}),
    ({"type": "cache.upload.request", "messageId": "m", "jobId": "j", "cacheType": "deps"},
     {"type": "cache.upload.response", "requestId": "m", "uploadUrl": ""}),
    ({"type": "provenance.upload.request", "messageId": "m", "jobId": "j"},
     {"type": "provenance.upload.response", "requestId": "m", "uploadUrl": ""}),
    ({"type": "step.approval-request", **IDS, "stepIndex": 2, "stepName": "s", "reason": "x",
      "clauses": []},
     {"type": "step.approval-resolved", "requestId": "m", "runId": "r", "jobId": "j",
      "stepIndex": 2, "outcome": "rejected",
      "reason": "Approvals not available on this orchestrator"}),
    ({"type": "artifacts.upload.request", "messageId": "m", "jobId": "j", "name": "n"},
     {"type": "artifacts.upload.response", "requestId": "m", "outcome": "rejected",
      "error": "artifact uploads are not configured on this orchestrator"}),
    ({"type": "artifacts.upload.complete", "messageId": "m", "jobId": "j", "sha256": "0"},
     {"type": "artifacts.upload.complete.ack", "requestId": "m", "outcome": "failed",
      "reason": "artifact uploads are not configured on this orchestrator"}),
    ({"type": "artifacts.download.request", "messageId": "m", "jobId": "j", "name": "n"},
     {"type": "artifacts.download.response", "requestId": "m", "outcome": "not_found",
      "error": "artifact uploads are not configured on this orchestrator"}),
    ({"type": "scaler.claim-credentials", "requestId": "q", "claimCode": "c"},
     {"type": "scaler.claim-credentials.response", "requestId": "q",
      "error": "Scaler credential claim not available"}),
]  # fmt: skip


# A64 A65 A66 A67 A68 A69 A70 A71
@pytest.mark.parametrize(("request_", "answer"), REQUESTS, ids=[r[0]["type"] for r in REQUESTS])
def test_a_request_is_answered_at_once_with_its_id(request_, answer):
    actions = registered().receive(json.dumps(request_), 1.0)
    assert sent(actions) == [answer]
    assert len(actions) == 1


# A70
@pytest.mark.parametrize("mode", ["token", "none"])
def test_a_credential_claim_is_answered_before_registration_and_moves_no_timer(mode):
    session = new_session(mode)
    session.start(0.0)
    before = session.deadline
    frame = json.dumps(REQUESTS[-1][0])
    assert types(session.receive(frame, 1.0)) == ["scaler.claim-credentials.response"]
    assert session.deadline == before


# A68
@pytest.mark.parametrize(
    "frame",
    [
        {"type": "cache.upload.complete", "messageId": "m", "jobId": "j"},
        {"type": "cache.user.save.complete", "messageId": "m", "jobId": "j", "key": "k"},
        {"type": "provenance.upload.complete", "messageId": "m", "jobId": "j"},
        {"type": "provenance.upload.defer", "messageId": "m", "jobId": "j"},
    ],
)
def test_completions_of_what_never_began_are_dropped(frame):
    assert registered().receive(json.dumps(frame), 1.0) == []


# A84
def test_bundle_pieces_go_to_whom_asked_for_them():
    frame = {
        "type": "fleet.bundle.chunk",
        "requestId": "q",
        "seq": 0,
        "isLast": True,
        "dataB64": "",
    }
    assert isinstance(registered().receive(json.dumps(frame), 1.0)[0], Bundled)
    frame["seq"] = -1
    assert closed(registered().receive(json.dumps(frame), 1.0))[0] == 4003


# --- liveness and ends ---------------------------------------------------------------


def advance(session, until, *, pongs=False, heartbeats=False):
    """Run the timers up to ``until``; the actions with their times."""
    seen, next_beat = [], 30.0
    while session.deadline is not None and min(session.deadline, next_beat) <= until:
        now = min(session.deadline, next_beat)
        if now == next_beat:
            next_beat += 30.0
            if heartbeats:
                assert session.receive('{"type":"heartbeat","timestamp":1}', now) == []
        for action in session.tick(now):
            seen.append((now, action))
            if pongs and isinstance(action, PingAgent):
                session.heard(now + 0.01)
    return seen


# A24
def test_heartbeats_are_not_answered_and_keep_the_agent():
    seen = advance(registered(), 1000.0, heartbeats=True)
    assert {type(action) for _at, action in seen} <= {PingAgent}


# A24 W121
def test_pongs_alone_keep_an_agent_for_180_s_only():
    seen = advance(registered(), 1000.0, pongs=True)
    assert [at for at, action in seen if isinstance(action, Note)] == [UNHEALTHY_S]
    at, action = seen[-1]
    assert (at, action) == (GONE_S, Close(4004, "Heartbeat timeout"))


# A25
def test_pings_that_nobody_answers_end_the_connection_within_90_s():
    seen = advance(registered(), 1000.0)
    assert [at for at, action in seen if isinstance(action, PingAgent)] == [
        PING_S, 2 * PING_S, 3 * PING_S,
    ]  # fmt: skip
    assert PING_S <= 30
    at, action = seen[-1]
    assert at == DEAD_S == 90
    assert action.code == 4004


# A24
def test_any_frame_counts_as_a_sign_of_life():
    session = registered()
    for now in range(0, 2000, 60):
        session.receive(log_chunk(), float(now))
        assert not [a for a in session.tick(now + 59.0) if isinstance(a, Close)]


def test_silence_while_we_do_not_read_is_not_held_against_the_agent():
    session = registered()
    session.paused(True, 0.0)
    seen = advance(session, 600.0)
    assert seen
    assert {type(action) for _at, action in seen} == {PingAgent}
    session.paused(False, 600.0)
    assert session.tick(600.0 + DEAD_S - 1) != [] or session.phase is Phase.REGISTERED
    assert session.phase is Phase.REGISTERED


# A26
def test_revocation_is_auth_failure_and_4010():
    actions = registered().revoked()
    assert sent(actions) == [{"type": "auth.failure", "reason": "Token revoked"}]
    assert closed(actions) == (4010, "Token revoked")


# A17
def test_a_superseded_connection_is_told_so_and_not_with_4010():
    assert registered().superseded() == [Close(SUPERSEDED, "Superseded by reconnect")]
    assert 4000 <= SUPERSEDED < 5000
    assert SUPERSEDED != 4010


def test_after_the_end_nothing_is_answered():
    session = registered()
    session.closing(1001, "leaving")
    assert session.receive(auth(), 1.0) == []
    assert session.revoked()[-1:] != [Close(4010, "Token revoked")]
    assert session.tick(1e9) == []
    session.lost("gone", 2.0)
    assert session.deadline is None


# --- recorded agents -----------------------------------------------------------------


def recorded(name):
    rows = [json.loads(line) for line in (TRANSCRIPTS / name).read_text().splitlines()]
    return [(row["dir"], row["msg"]) for row in rows if "msg" in row]


def shape(value):
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value[:1]]
    return type(value).__name__


# A103 A104
@pytest.mark.parametrize("name", sorted(path.name for path in TRANSCRIPTS.glob("agent-*.jsonl")))
def test_a_recorded_agent_gets_what_the_real_worker_said(name):
    frames = recorded(name)
    expected = [m for d, m in frames if d == "worker->agent" and not m["type"].startswith("job.")]
    session = AgentSession("c", verify=lambda token: Grant(labels=None), bind=lambda g, *_: g)
    session.start(0.0)
    said, answered = [], []
    for direction, message in frames:
        if direction != "agent->worker":
            continue
        for action in session.receive(json.dumps(message), 1.0):
            if isinstance(action, Registration):
                ack = RegisterAck(
                    agent_id=action.message.agent_id,
                    labels=action.message.labels,
                    scaler_managed=True,
                    pending_dispatch=True,
                )
                answered += sent(session.registered(ack, 1.0))
            elif isinstance(action, Send):
                answered.append(json.loads(action.text))
            else:
                said.append(action)
    assert [shape(m) for m in answered] == [shape(m) for m in expected]
    assert answered[-1] == expected[-1]
    assert all(isinstance(action, Said) for action in said)
    heard = [m for d, m in frames if d == "agent->worker"]
    quiet = {"auth.request", "agent.register", "run.event", "job.context", "heartbeat"}
    assert [type(a.message).__struct_config__.tag for a in said] == [
        m["type"] for m in heard if m["type"] not in quiet
    ]


# A9 A10
@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"agent_id": "x" * 257}, "agentId is longer"),
        ({"labels": [f"l{i}" for i in range(513)]}, "more than 512 labels"),
        ({"labels": ["l" * 257]}, "one above 256"),
        ({"hostname": "h" * 257}, "hostname is longer"),
        ({"version": "v" * 1_000_000}, "version is longer"),
        ({"inFlightJobs": [{"jobId": "j", "runId": "r"}] * 1001}, "jobs in flight"),
    ],
)
def test_a_registration_that_would_swell_every_heartbeat_is_refused(said, words):
    session = new_session("none")
    session.start(0.0)
    (close,) = session.receive(register(**said), 0.0)
    assert isinstance(close, Close)
    assert close.code == 4003
    assert words in close.reason
