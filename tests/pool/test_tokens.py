"""Derived and static agent tokens: what verifies, after a restart too, and what does not."""

import json
import os
import re
import stat

import pytest

from kici.errors import ConfigError
from kici.pool.tokens import TokenIssuer, create_static, list_static, revoke_static

LABELS = ("Linux ", "gpu", "kici:agent:bare-metal", "kici:os:linux", "kici:role:builder")
WIRE = ("linux", "gpu", "kici:agent:bare-metal", "kici:role:builder", "kici:host:box")


class Clock:
    def __init__(self):
        self.now = 1_800_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def issuer(tmp_path, clock):
    return TokenIssuer(str(tmp_path), wall=clock)


def test_a_token_has_the_real_form_and_grants_its_agent_and_labels(issuer):
    token = issuer.issue("scaler-bm-1", LABELS, 3600)
    assert re.fullmatch(r"kat_[0-9a-f]{64}", token)
    grant = issuer.verify(token)
    assert (grant.kind, grant.agent_id) == ("ephemeral", None)
    bound = issuer.bind(grant, "scaler-bm-1", WIRE)
    assert bound.agent_id == "scaler-bm-1"
    assert set(bound.labels) == {"linux", "gpu", "kici:agent:bare-metal", "kici:role:builder"}
    assert bound.token_id == grant.token_id
    assert bound.token_id not in token


# A27
def test_a_token_is_good_after_a_restart_without_being_stored(tmp_path, issuer, clock):
    token = issuer.issue("a1", LABELS, 3600)
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert token.encode() not in stored
    assert bytes.fromhex(token[4:]) not in stored
    again = TokenIssuer(str(tmp_path), wall=clock)
    assert again.bind(again.verify(token), "a1", WIRE).agent_id == "a1"


# A27
def test_after_a_restart_the_scope_is_the_configured_one_or_exactly_the_issued_one(
    tmp_path, issuer, clock
):
    token = issuer.issue("a1", LABELS, 3600)
    again = TokenIssuer(str(tmp_path), wall=clock)
    assert again.bind(again.verify(token), "a1", [*WIRE, "root"]) is None
    assert again.bind(again.verify(token), "a1", WIRE[:2]) is None
    again.know(LABELS)
    assert "gpu" in again.verify(token).labels
    assert again.bind(again.verify(token), "a1", WIRE[:2]).labels == again.verify(token).labels


# A11
def test_a_token_binds_to_its_agent_only(issuer):
    grant = issuer.verify(issuer.issue("a1", LABELS, 3600))
    assert issuer.bind(grant, "a2", WIRE) is None
    assert issuer.bind(grant, "A1", WIRE) is None


# A5 W90
@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: "",
        lambda t: "kat_",
        lambda t: t[:-1],
        lambda t: t + "0",
        lambda t: t.upper(),
        lambda t: "kat_" + "0" * 64,
        lambda t: t[:-1] + ("0" if t[-1] != "0" else "1"),
        lambda t: t[:4] + ("0" if t[4] != "0" else "1") + t[5:],
        lambda t: "kat_" + t[36:] + t[4:36],
        lambda t: " " + t,
        lambda t: t + "\n",
        lambda t: "\udc80" + t,
    ],
)
def test_a_forged_or_truncated_token_is_unknown(issuer, spoil):
    assert issuer.verify(spoil(issuer.issue("a1", LABELS, 3600))) is None


def test_another_workers_token_is_unknown(tmp_path, issuer, clock):
    other = TokenIssuer(str(tmp_path / "other"), wall=clock)
    assert issuer.verify(other.issue("a1", LABELS, 3600)) is None


# A5
def test_a_token_expires_at_authentication(issuer, clock):
    token = issuer.issue("a1", LABELS, 60)
    clock.now += 59
    assert issuer.verify(token) is not None
    clock.now += 3
    assert issuer.verify(token) is None
    assert issuer.verify(issuer.issue("a1", LABELS, None)).expires_at is None


# S81
def test_an_agent_that_is_alive_may_reconnect_with_an_expired_token(tmp_path, issuer, clock):
    token = issuer.issue("a1", LABELS, 60)
    issuer.hold("a1")
    clock.now += 86400
    assert issuer.verify(token) is not None
    again = TokenIssuer(str(tmp_path), wall=clock)
    assert again.verify(token) is None
    again.hold("a1")  # found alive by its backend
    assert again.verify(token) is not None


def test_the_token_of_an_agent_that_is_gone_is_worth_nothing(issuer):
    token = issuer.issue("a1", LABELS, 3600)
    issuer.hold("a1")
    issuer.release("a1")
    assert issuer.verify(token) is None
    assert issuer.verify(issuer.issue("a1", LABELS, 3600)) is not None


# A26
def test_a_revoked_token_stays_revoked_after_a_restart(tmp_path, issuer, clock):
    token, other = issuer.issue("a1", LABELS, None), issuer.issue("a2", LABELS, None)
    issuer.revoke(issuer.verify(token).token_id)
    issuer.persist()
    assert issuer.verify(token) is None
    assert issuer.verify(other) is not None
    assert TokenIssuer(str(tmp_path), wall=clock).verify(token) is None


def test_the_key_is_private_made_once_and_replaced_when_damaged(tmp_path, clock):
    token = TokenIssuer(str(tmp_path / "new"), wall=clock).issue("a1", LABELS, 60)
    path = tmp_path / "new" / "agent-token-key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = path.read_bytes()
    TokenIssuer(str(tmp_path / "new"))
    assert path.read_bytes() == key
    path.write_bytes(b"short")
    assert TokenIssuer(str(tmp_path / "new"), wall=clock).verify(token) is None
    assert len(path.read_bytes()) == 32


def test_an_unusable_key_path_is_the_operators_problem(tmp_path):
    (tmp_path / "agent-token-key").mkdir()
    with pytest.raises(ConfigError, match="agent-token-key"):
        TokenIssuer(str(tmp_path))


# --- static tokens -------------------------------------------------------------------


def test_a_static_token_is_stored_as_hash_and_works_for_many_agents(tmp_path, clock):
    path = str(tmp_path / "tokens" / "agents.jsonl")
    issuer = TokenIssuer(str(tmp_path), static_file=path, wall=clock)
    row, token = create_static(path, ["Linux", "gpu"], note="lab")
    assert re.fullmatch(r"kat_[0-9a-f]{64}", token)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with open(path) as file:
        stored = json.loads(file.read())
    assert token not in json.dumps(stored)
    assert stored["labels"] == ["linux", "gpu"]
    assert stored["prefix"] == token[:12]
    grant = issuer.verify(token)
    assert (grant.kind, grant.labels, grant.token_id) == ("static", ("linux", "gpu"), row.id)
    assert issuer.bind(grant, "any", ["linux"]) == issuer.bind(grant, "other", ["linux"]) == grant


def test_static_tokens_are_added_listed_and_taken_out_while_the_pool_runs(tmp_path):
    path = str(tmp_path / "agents.jsonl")
    issuer = TokenIssuer(str(tmp_path), static_file=path)
    assert issuer.verify("kat_" + "0" * 64) is None
    first, token = create_static(path, None)
    second, other = create_static(path, [])
    assert issuer.verify(token).labels is None
    assert issuer.verify(other).labels == ()
    assert [row.id for row in list_static(path)] == [first.id, second.id]
    assert revoke_static(path, first.id)
    assert not revoke_static(path, first.id)
    assert issuer.verify(token) is None
    assert issuer.verify(other) is not None


def test_a_broken_token_file_names_its_line_and_keeps_what_was_good(tmp_path, caplog):
    path = tmp_path / "agents.jsonl"
    issuer = TokenIssuer(str(tmp_path), static_file=str(path))
    _row, token = create_static(str(path), None)
    assert issuer.verify(token)
    path.write_text(path.read_text() + "{not json\n")
    with pytest.raises(ConfigError, match="line 2"):
        list_static(str(path))
    assert issuer.verify(token)
    assert issuer.verify(token)
    assert len(caplog.records) == 1  # said once, not at each agent
    path.unlink()
    assert issuer.verify(token) is None
