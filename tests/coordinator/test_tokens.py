"""Join tokens and credentials in a real database (peer spec 2.1-2.4)."""

import base64
import sqlite3

import pytest

from kici.coordinator.store import Store
from kici.coordinator.tokens import CREDENTIAL_LIFE_MS, Tokens
from kici.protocol.coordinator_auth import DoorError, Joined, token_hash
from kici.protocol.handshake import credential_hash

NOW = 1_772_352_930_000


@pytest.fixture
def clock():
    return [NOW]


@pytest.fixture
def tokens(tmp_path, clock):
    store = Store(tmp_path / "data", lambda: clock[0])
    yield Tokens(store)
    store.close()


def join(tokens, made, instance_id="w1", role="worker"):
    return tokens.join(token_hash(made.token), instance_id, role)


# C6: bound to the instance, only hashes are stored.
def test_token_gives_a_credential_and_neither_text_is_stored(tokens, tmp_path):
    made = tokens.mint("worker")
    joined = join(tokens, made)
    assert isinstance(joined, Joined)
    assert joined.role == "worker"
    assert tokens.credential("w1").hashed == credential_hash(joined.credential)
    assert tokens.credential("w2") is None
    stored = b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir())
    assert made.token.split(".")[2].encode() not in stored
    assert bytes.fromhex(made.token.split(".")[2]) not in stored
    assert joined.credential.encode() not in stored


# C7
def test_same_instance_may_join_again_and_no_other(tokens):
    made = tokens.mint("worker")
    first, second = join(tokens, made), join(tokens, made)
    assert first.credential != second.credential
    assert tokens.credential("w1").hashed == credential_hash(second.credential)
    assert join(tokens, made, "w2") == "Invalid token"


# C8
def test_expired_and_unknown_tokens_are_refused(tokens, clock):
    made = tokens.mint("worker", life_ms=1000)
    assert tokens.join(bytes(32), "w1", None) == "Invalid token"
    clock[0] += 1000
    assert join(tokens, made) == "Invalid token"


# C14, C20: nothing is consumed, nothing revoked.
def test_refused_role_leaves_token_and_credential_as_they_were(tokens):
    before = join(tokens, tokens.mint("worker"))
    made = tokens.mint("worker")
    assert join(tokens, made, role="coordinator") == "Role mismatch"
    assert join(tokens, tokens.mint("coordinator"), role="coordinator") == "Role mismatch"
    assert tokens.credential("w1").hashed == credential_hash(before.credential)
    assert isinstance(join(tokens, made, "w2"), Joined)


# C10
def test_revoked_and_expired_credentials_are_unknown(tokens, clock):
    join(tokens, tokens.mint("worker"), "w1")
    join(tokens, tokens.mint("worker"), "w2")
    assert tokens.revoke("w1") == 1
    assert tokens.revoke("w1") == 0
    assert tokens.credential("w1") is None
    assert tokens.admitted(["w1", "w2"]) == {"w2"}
    clock[0] += CREDENTIAL_LIFE_MS
    assert tokens.credential("w2") is None
    assert isinstance(join(tokens, tokens.mint("worker"), "w2"), Joined)


def test_mutual_proof_finds_tokens_by_their_stored_routing(tokens):
    made = tokens.mint("worker")
    routing = made.token.split(".")[1]
    assert tokens.token_hashes(routing) == [token_hash(made.token)]
    for odd in ("", "x", "ä", "bnVsbA", "e30", "eyJvcmdJZCI6MX0"):
        assert list(tokens.token_hashes(odd)) == []


# C22
def test_database_that_refuses_is_a_door_error(tokens, tmp_path):
    made = tokens.mint("worker")
    with sqlite3.connect(tmp_path / "data" / "coordinator.db", isolation_level=None) as other:
        other.execute("DROP TABLE peer_credentials")
    other.close()
    with pytest.raises(DoorError):
        join(tokens, made)
    with pytest.raises(DoorError):
        tokens.credential("w1")


def test_change_by_another_process_is_noticed_once(tokens, tmp_path):
    store = tokens._store
    tokens.mint("worker")
    assert not store.changed_elsewhere()
    with sqlite3.connect(tmp_path / "data" / "coordinator.db") as other:
        other.execute("UPDATE join_tokens SET expires_at = 1")
    other.close()
    assert store.changed_elsewhere()
    assert not store.changed_elsewhere()


def routing_part(text):
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


# C8: what no token of ours can say finds no token, and raises nothing.
@pytest.mark.parametrize(
    "text",
    [
        b'{"orgId":"default","routingKey":"default","expiry":1e30}',
        b'{"orgId":"default","routingKey":"default","expiry":-' + b"9" * 25 + b"}",
        b'{"orgId":"default","routingKey":"default","expiry":Infinity}',
        b'{"orgId":"\\ud800","routingKey":"default","expiry":1}',
        b'{"orgId":"default","routingKey":"\\udfff","expiry":1}',
        b'{"orgId":' + b"[" * 500 + b"]" * 500 + b',"routingKey":"default","expiry":1}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[]",
        b"\xff",
    ],
    ids=range(10),
)
def test_odd_routing_part_finds_no_token(tokens, text):
    assert list(tokens.token_hashes(routing_part(text))) == []


DAY_MS = 86_400_000


def rows(tokens, table):
    return tokens._store.read(f"SELECT * FROM {table}")


def test_tokens_and_revoked_credentials_go_a_month_after_their_end(tokens, clock):
    old = tokens.mint("worker")
    for _ in range(3):
        join(tokens, old)
    tokens.prune()
    clock[0] += 31 * DAY_MS
    fresh = tokens.mint("worker")
    join(tokens, fresh, "w2")
    tokens.prune()
    assert [row["token_hash"] for row in rows(tokens, "join_tokens")] == [token_hash(fresh.token)]
    assert [row["instance_id"] for row in rows(tokens, "peer_credentials")] == ["w1", "w2"]
    assert tokens.credential("w1") is not None


def test_a_worker_that_joins_again_and_again_leaves_a_bounded_number_of_rows(tokens, monkeypatch):
    monkeypatch.setattr("kici.coordinator.tokens.KEEP_ENDED", 5)
    made = tokens.mint("worker")
    for _ in range(20):
        join(tokens, made)
    for _ in range(20):
        tokens.mint("worker", life_ms=0)
    tokens.prune()
    assert len(rows(tokens, "peer_credentials")) == 6
    assert len(rows(tokens, "join_tokens")) == 6
    assert tokens.credential("w1") is not None
    assert isinstance(join(tokens, made), Joined)


# C19: a link may outlive its credential; its row must not look revoked.
def test_credential_that_only_expired_is_kept_for_a_year(tokens, clock):
    join(tokens, tokens.mint("worker"))
    clock[0] += CREDENTIAL_LIFE_MS + 364 * DAY_MS
    tokens.prune()
    assert tokens.admitted(["w1"]) == {"w1"}
    clock[0] += 2 * DAY_MS
    tokens.prune()
    assert rows(tokens, "peer_credentials") == []
