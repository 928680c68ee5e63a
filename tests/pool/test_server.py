"""The agent server over real sockets, with a scripted core behind it."""

import io
import json
import os
import time

import gevent
import pytest

from kici.contracts.link.views import SocketPassed
from kici.contracts.wire.agent.jobs import JobCancel
from kici.contracts.wire.agent.session import ErrorMessage, RegisterAck
from kici.errors import RemoteError
from kici.pool import agent_socket, server
from kici.pool import tokens as pool_tokens
from kici.pool.bundles import Budget
from kici.pool.server import AgentServer
from kici.pool.tokens import TokenIssuer
from kici.protocol.bundle_pieces import BundleFailed
from tests.support import raw_websocket as raw
from tests.support.waiting import until

WAIT_S = 5.0
LABELS = ("linux", "gpu")


class Core:
    """The pool's core as a script: keeps what it is told, answers what it is told to."""

    def __init__(self):
        self.connections = []
        self.heard = []
        self.lost_ones = []
        self.forgotten_ones = []
        self.refuse = None
        self.on_register = lambda connection: None
        self.on_said = lambda connection, message: None

    def registered(self, connection, message):
        if self.refuse:
            return self.refuse
        self.connections.append(connection)
        self.on_register(connection)
        return RegisterAck(agent_id=message.agent_id, labels=message.labels)

    def said(self, connection, message):
        self.heard.append((connection.agent_id, message))
        self.on_said(connection, message)

    def lost(self, connection, reason):
        self.lost_ones.append((connection.connection_id, reason))

    def forgotten(self, connection):
        self.forgotten_ones.append(connection)


class Pool:
    def __init__(self, tmp_path, auth="token"):
        self.core = Core()
        self.tokens = TokenIssuer(str(tmp_path))
        self.server = AgentServer(self.core, self.tokens, auth=auth)
        self.clients = []

    def dial(self, **kwargs):
        left, right = raw.connected_pair()
        client = raw.RawClient(left, timeout_s=WAIT_S)
        self.clients.append(client)
        request = raw.upgrade_request(**kwargs).decode().split("\r\n")
        headers = tuple(tuple(line.split(": ", 1)) for line in request[1:-2])
        message = SocketPassed(path="/ws", headers=headers, remote="test:1", early=b"")
        self.server.take(message, right.detach())
        return client

    def agent(self, agent_id="a1", token=None, labels=LABELS, **extra):
        """A registered agent's client."""
        client = self.dial()
        client.head()
        token = token or self.tokens.issue(agent_id, labels, 3600)
        say(client, type="auth.request", token=token, protocolVersion=1)
        assert hear(client)["type"] == "auth.success"
        register(client, agent_id, labels, **extra)
        return client

    def close(self):
        for client in self.clients:
            client.shut()
        self.server.close(1001, "test ends", 2.0)


def say(client, **message):
    client.send(raw.text(json.dumps(message), mask=b"\0\0\0\0"))


def hear(client):
    """The next message; pings apart."""
    while True:
        opcode, payload = client.frame()
        if opcode == 1:
            return json.loads(payload)
        assert opcode == 9, (opcode, payload)


def register(client, agent_id="a1", labels=LABELS, **extra):
    say(client, type="agent.register", messageId="m", agentId=agent_id, labels=labels, **extra)


@pytest.fixture
def pool(tmp_path):
    pool = Pool(tmp_path)
    yield pool
    pool.close()
    assert pool.server.n_connections == 0


# A1 A2 A4 A15 W90
def test_an_agent_with_its_token_is_registered(pool):
    client = pool.agent("a1")
    assert hear(client) == {"type": "register.ack", "agentId": "a1", "labels": ["linux", "gpu"]}
    (connection,) = pool.core.connections
    assert connection.agent_id == "a1"
    assert connection.grant.agent_id == "a1"


# A2
def test_offered_compression_is_declined(pool):
    client = pool.dial(extra=["Sec-WebSocket-Extensions: permessage-deflate"])
    assert "Extensions" not in client.head()


# A5 W90
def test_a_wrong_token_is_refused_for_good(pool, caplog):
    client = pool.dial()
    client.head()
    say(client, type="auth.request", token="kat_" + "7" * 64, protocolVersion=1)
    assert hear(client) == {"type": "auth.failure", "reason": "Invalid or expired token"}
    assert client.closing() == (4010, "Authentication failed")
    client.send(raw.close(4010))
    assert client.at_end()
    assert "7777" not in caplog.text
    assert pool.core.lost_ones == []


# A7
def test_a_silent_connection_is_closed_by_the_timer(pool, monkeypatch):
    monkeypatch.setattr("kici.protocol.agent_session.AUTH_S", 0.1)
    client = pool.dial()
    client.head()
    assert client.closing() == (4002, "Auth timeout")


# A15
def test_what_the_core_sends_while_registering_comes_after_the_ack(pool):
    cancel = JobCancel(message_id="m", run_id="r", job_id="j", reason="early")
    pool.core.on_register = lambda connection: connection.send(cancel)
    client = pool.agent()
    assert [hear(client)["type"], hear(client)["type"]] == ["register.ack", "job.cancel"]


def test_a_refusal_of_the_core_closes_with_its_code(pool):
    pool.core.refuse = RemoteError(4006, "not now")
    client = pool.agent()
    assert client.closing() == (4006, "not now")
    client.send(raw.close(4006))
    until(lambda: pool.server.n_connections == 0)
    assert pool.core.lost_ones == []


# A17
def test_a_second_connection_of_the_same_agent_supersedes_the_first(pool):
    token = pool.tokens.issue("a1", LABELS, 3600)
    first = pool.agent("a1", token)
    hear(first)
    second = pool.agent("a1", token)
    assert hear(second)["type"] == "register.ack"
    say(first, type="job.heartbeat", runId="r", jobId="j", timestamp=1)
    assert first.closing() == (4012, "Superseded by reconnect")
    first.send(raw.close(4012))
    until(lambda: pool.server.n_connections == 1)
    assert pool.core.lost_ones == []
    assert pool.core.heard == []
    old, new = pool.core.connections
    assert pool.core.forgotten_ones == [old]
    assert old.connection_id != new.connection_id
    assert new.send(ErrorMessage(code="c", message="still here"))
    assert hear(second)["message"] == "still here"


# A13
def test_an_agent_id_of_another_token_is_4003_and_its_owner_stays(pool, tmp_path):
    owner = pool.agent("a1")
    hear(owner)
    other = pool.tokens.issue("a1", ("linux",), 3600)
    intruder = pool.agent("a1", other, ("linux",))
    assert intruder.closing() == (4003, "AgentId already registered with a different token")
    assert pool.core.connections[0].send(ErrorMessage(code="c", message="m"))
    assert hear(owner)["type"] == "error"
    owner.shut()
    until(lambda: pool.core.lost_ones)
    assert hear(pool.agent("a1", other, ("linux",)))["type"] == "register.ack"


# W91
def test_in_none_mode_tokens_do_not_matter_and_ids_are_superseded(tmp_path):
    pool = Pool(tmp_path, auth="none")
    client = pool.dial()
    client.head()
    register(client, "a1", ["anything"])
    assert hear(client)["type"] == "register.ack"
    other = pool.agent("a1", "whatever", ["anything"])
    assert hear(other)["type"] == "register.ack"
    assert client.closing()[0] == 4012
    pool.close()


# A23 A61
def test_a_burst_of_frames_and_a_large_one_all_reach_the_core_in_order(pool):
    client = pool.agent()
    hear(client)
    chunk = {"type": "log.chunk", "messageId": "m", "runId": "r", "jobId": "j", "timestamp": 1}
    big = json.dumps(chunk | {"stepIndex": 0, "lines": ["z" * 100] * 30_000})
    burst = [json.dumps(chunk | {"stepIndex": n, "lines": []}) for n in range(300)]
    client.send(b"".join(raw.text(text, mask=b"\0\0\0\0") for text in [*burst, big]))
    until(lambda: len(pool.core.heard) == 301)
    assert [message.step_index for _agent, message in pool.core.heard[:300]] == list(range(300))
    assert len(pool.core.heard[300][1].lines) == 30_000


# A23a A19
@pytest.mark.parametrize("frame", ["null", "5", '"x"', "[]", "{"])
def test_garbage_closes_its_connection_and_no_other(pool, frame):
    good, bad = pool.agent("a1"), pool.agent("a2")
    hear(good)
    hear(bad)
    bad.send(raw.text(frame))
    assert hear(bad) == {
        "type": "error",
        "code": "INVALID_MESSAGE",
        "message": "Invalid message format",
    }
    assert bad.closing()[0] == 4003
    bad.send(raw.close(4003))
    (lost,) = until(lambda: pool.core.lost_ones)
    assert lost[1] == "4003 Invalid message format"
    say(good, type="agent.status", messageId="m", agentId="a1", activeJobs=0)
    until(lambda: pool.core.heard)


# A71
def test_answers_go_to_the_connection_that_asked(pool):
    one, two = pool.agent("a1"), pool.agent("a2")
    hear(one)
    hear(two)
    say(two, type="agent.api.request", requestId="q2", method="x", params={})
    assert hear(two)["requestId"] == "q2"
    say(one, type="agent.api.request", requestId="q1", method="x", params={})
    assert hear(one)["requestId"] == "q1"


# A26
def test_revoking_a_token_ends_its_agents_and_no_others(pool):
    one, two = pool.agent("a1"), pool.agent("a2")
    hear(one)
    hear(two)
    assert pool.server.revoke(pool.core.connections[0].grant.token_id) == 1
    assert hear(one) == {"type": "auth.failure", "reason": "Token revoked"}
    assert one.closing() == (4010, "Token revoked")
    one.send(raw.close(4010))
    until(lambda: len(pool.core.lost_ones) == 1)
    assert pool.server.revoke("unknown") == 0
    assert pool.core.connections[1].send(ErrorMessage(code="c", message="m"))


# A26
def test_a_full_disk_ends_neither_the_pool_nor_a_revocation(pool, tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(server, "PERSIST_AGAIN_S", 0.01)
    written, kept = tmp_path / "agent-tokens-revoked.json", pool_tokens.write_atomic
    client = pool.agent()
    hear(client)
    monkeypatch.setattr(pool_tokens, "write_atomic", full)
    token_id = pool.core.connections[0].grant.token_id
    assert pool.server.revoke(token_id) == 1
    assert hear(client) == {"type": "auth.failure", "reason": "Token revoked"}
    assert not written.exists()
    monkeypatch.setattr(pool_tokens, "write_atomic", kept)
    until(written.exists)
    assert token_id in written.read_text()


# A39
def test_sending_to_a_connection_that_is_over_is_false(pool):
    client = pool.agent()
    hear(client)
    (connection,) = pool.core.connections
    client.shut()
    until(lambda: pool.core.lost_ones)
    assert connection.send(ErrorMessage(code="c", message="m")) is False


# A3
def test_a_frame_above_25_mib_is_never_sent(pool):
    client = pool.agent()
    hear(client)
    (connection,) = pool.core.connections
    assert not connection.send(ErrorMessage(code="c", message="x" * (25 * 2**20)))
    assert connection.send(ErrorMessage(code="c", message="small"))
    assert hear(client)["message"] == "small"


def test_an_agent_that_reads_nothing_is_cut_off_at_the_queues_bound(pool):
    client = pool.agent()
    hear(client)
    (connection,) = pool.core.connections
    frame = ErrorMessage(code="c", message="x" * 100_000)
    n_sent = 0
    while connection.send(frame):
        n_sent += 1
        assert n_sent < 2000
        gevent.sleep(0)
    assert n_sent >= agent_socket.WRITE_QUEUE_LENGTH
    (lost,) = until(lambda: pool.core.lost_ones)
    assert "takes no data" in lost[1]


def test_a_paused_agent_waits_and_goes_on(pool):
    client = pool.agent()
    hear(client)
    (connection,) = pool.core.connections
    pool.core.on_said = lambda connection, message: connection.pause()
    for _ in range(3):
        say(client, type="job.heartbeat", runId="r", jobId="j", timestamp=1)
    until(lambda: pool.core.heard)
    gevent.sleep(0.05)
    assert len(pool.core.heard) == 1
    assert connection.send(ErrorMessage(code="c", message="one way still works"))
    assert hear(client)["type"] == "error"
    pool.core.on_said = lambda connection, message: None
    connection.resume()
    until(lambda: len(pool.core.heard) == 3)


# A25
def test_an_agent_that_answers_nothing_is_gone(pool, monkeypatch):
    monkeypatch.setattr(agent_socket, "CLOSE_TIMEOUT_S", 0.1)
    for name, value in {"PING_S": 0.05, "DEAD_S": 0.2, "UNHEALTHY_S": 0.1}.items():
        monkeypatch.setattr(f"kici.protocol.agent_liveness.{name}", value)
    client = pool.agent()
    hear(client)
    (lost,) = until(lambda: pool.core.lost_ones)
    assert lost[1].startswith("4004 ")


# A25
def test_an_agent_that_answers_pings_stays(pool, monkeypatch):
    for name, value in {"PING_S": 0.02, "DEAD_S": 0.15}.items():
        monkeypatch.setattr(f"kici.protocol.agent_liveness.{name}", value)
    client = pool.agent()
    hear(client)
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        assert client.frame() == (9, b"")
        client.send(raw.frame(10))
    assert pool.core.lost_ones == []


# A27
def test_a_new_server_takes_the_agents_of_the_old_one(pool, tmp_path):
    token = pool.tokens.issue("a1", LABELS, 3600)
    hear(pool.agent("a1", token))
    again = Pool(tmp_path)
    assert hear(again.agent("a1", token))["type"] == "register.ack"
    again.close()


def test_closing_the_server_says_goodbye_to_everyone(pool):
    clients = [pool.agent(f"a{n}") for n in range(5)]
    for client in clients:
        hear(client)
    closer = gevent.spawn(pool.server.close, 1001, "leaving", 3.0)
    for client in clients:
        assert client.closing() == (1001, "leaving")
        client.send(raw.close(1001))
    closer.get(timeout=WAIT_S)
    assert len(pool.core.lost_ones) == 5


def test_connections_are_bounded(pool, monkeypatch):
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    hear(pool.agent("a1"))
    hear(pool.agent("a2"))
    assert pool.dial().at_end()
    assert pool.server.n_connections == 2


def test_a_bad_upgrade_leaves_nothing_behind(pool):
    client = pool.dial(key="bad")
    assert client.head().startswith("HTTP/1.1 400 ")
    until(lambda: pool.server.n_connections == 0)


def test_hundreds_of_agents_leave_no_descriptor(pool):
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc")
    before = len(os.listdir("/proc/self/fd"))
    clients = [pool.agent(f"a{n}") for n in range(200)]
    for client in clients:
        assert hear(client)["type"] == "register.ack"
        client.shut()
    until(lambda: len(pool.core.lost_ones) == 200)
    assert len(os.listdir("/proc/self/fd")) <= before


# --- log bundles ---------------------------------------------------------------------


def chunk(client, request_id, seq, data, last=False):
    say(
        client,
        type="fleet.bundle.chunk",
        requestId=request_id,
        seq=seq,
        isLast=last,
        dataB64=data,
    )


class Asked:
    """``collect_logs`` of agent ``name``, under way; ``content`` is what it wrote."""

    def __init__(self, pool, name="a1", timeout_s=60.0, budget=10**9):
        self.sink = io.BytesIO()
        self._call = gevent.spawn(
            pool.server.collect_logs, name, 4, self.sink, Budget(budget), timeout_s
        )

    def get(self):
        return self._call.get(timeout=WAIT_S)


# A84
def test_a_bundle_is_joined_from_its_chunks(pool):
    client = pool.agent()
    hear(client)
    asked = Asked(pool)
    request = hear(client)
    assert (request["type"], request["logWindowHours"]) == ("fleet.logs.request", 4)
    assert request["maxBytes"] == 52_428_800
    chunk(client, "foreign", 0, "eHh4")
    chunk(client, request["requestId"], 0, "YWI=")
    chunk(client, request["requestId"], 1, "Y2Q=", last=True)
    assert asked.get() == 4
    assert asked.sink.getvalue() == b"abcd"
    assert pool.core.connections[0].bundles == {}


# A84 A85
@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([(1, "YQ==")], "chunk 1"),
        ([(0, "YQ=="), (0, "YQ==")], "chunk 0"),
        ([(0, "%%")], "base64"),
        ([(0, "YWFhYWFhYWFhYWFh")], "above"),
        ([(0, "YWFhYWFh"), (1, "YWFhYWFh")], "together"),
    ],
)
def test_a_bad_bundle_fails_the_request_only(pool, monkeypatch, pieces, reason):
    limit = 100 if reason == "together" else 10
    monkeypatch.setattr("kici.pool.bundles.MAX_BUNDLE_BYTES", limit)
    client = pool.agent()
    hear(client)
    asked = Asked(pool, budget=10)
    request_id = hear(client)["requestId"]
    for seq, data in pieces:
        chunk(client, request_id, seq, data)
    with pytest.raises(BundleFailed, match=reason):
        asked.get()
    assert pool.core.lost_ones == []


# A85
def test_a_full_disk_fails_the_request_and_not_the_agent(pool):
    client = pool.agent()
    hear(client)
    asked = Asked(pool)
    asked.sink.write = lambda _data: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    chunk(client, hear(client)["requestId"], 0, "YQ==", last=True)
    with pytest.raises(BundleFailed, match="No space left"):
        asked.get()
    assert pool.core.lost_ones == []


# A84
def test_an_agent_may_say_why_it_has_no_bundle(pool):
    client = pool.agent()
    hear(client)
    asked = Asked(pool)
    request_id = hear(client)["requestId"]
    say(client, type="fleet.bundle.error", requestId=request_id, message="no logs here")
    with pytest.raises(BundleFailed, match="no logs here"):
        asked.get()


# A84
def test_another_agents_chunks_do_not_count(pool):
    client, other = pool.agent("a1"), pool.agent("a2")
    hear(client)
    hear(other)
    asked = Asked(pool, timeout_s=0.3)
    request_id = hear(client)["requestId"]
    chunk(other, request_id, 0, "YQ==", last=True)
    with pytest.raises(BundleFailed, match="within") as failed:
        asked.get()
    assert failed.value.status == "timeout"


# A85
def test_a_bundle_fails_at_once_when_its_agent_goes(pool):
    client = pool.agent()
    hear(client)
    asked = Asked(pool)
    hear(client)
    client.shut()
    with pytest.raises(BundleFailed, match="gone") as failed:
        asked.get()
    assert failed.value.status == "unreachable"
    with pytest.raises(BundleFailed, match="not connected"):
        Asked(pool, "nobody").get()


# A3
def test_a_stranger_may_send_little_and_an_agent_with_its_token_much(pool):
    stranger = pool.dial()
    stranger.head()
    stranger.send(raw.text(json.dumps({"type": "auth.request", "token": "x" * 70_000})))
    assert stranger.closing()[0] == 1009
    client = pool.agent(labels=LABELS, hostname="h" * 100)
    hear(client)
    say(client, type="log.chunk", messageId="m", runId="r", jobId="j", timestamp=1, stepIndex=0,
        lines=["z" * 200_000])  # fmt: skip
    until(lambda: pool.core.heard)
