"""kici/peer/credentials.py: file, choice and join lock."""

import json
import logging
import stat

import gevent
import pytest

from kici.peer import credentials as module
from kici.peer.credentials import Credentials
from kici.protocol.peer_actions import Authentication
from kici.shell import durable

TOKEN = "kici_join_v1.x.y"
OLD, NEW = "ab" * 32, "cd" * 32
NOW = 1_772_352_930.0


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kici" / "peer-credential"


@pytest.fixture
def made(path):
    return Credentials(path, "worker-7", TOKEN, lambda: NOW)


def keep(path, credential=OLD, instance_id="worker-7", issued="2026-03-01T08:15:30.000Z"):
    path.parent.mkdir(exist_ok=True)
    content = {"instanceId": instance_id, "credential": credential, "role": "worker"}
    path.write_text(json.dumps(content | {"issuedAt": issued}, indent=2) + "\n")


# P18, W46
def test_a_valid_file_wins_over_the_token(made, path):
    keep(path)
    assert made.choose("a") == Authentication(mode="credential", secret=OLD)


# P19, W47
def test_a_file_of_another_instance_is_ignored_and_left(made, path):
    keep(path, instance_id="other")
    before = path.read_bytes()
    assert made.choose("a").mode == "token"
    assert path.read_bytes() == before


# P22, W53
@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b'{"instanceId":"worker-7"}'])
def test_a_corrupt_file_is_absent_and_a_copy_is_kept(made, path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    assert made.choose("a").mode == "token"
    copy = path.with_name("peer-credential.corrupt")
    assert copy.read_bytes() == content
    made.joined("a", NEW, "worker")
    assert made.current().credential == NEW


# P21, W43, W44, W55
def test_a_join_writes_the_reference_s_format(made, path):
    made.choose("a")
    made.joined("a", NEW, None)
    text = path.read_text()
    assert text == (
        '{\n  "instanceId": "worker-7",\n  "credential": "' + NEW + '",\n'
        '  "role": "worker",\n  "issuedAt": "2026-03-01T08:15:30.000Z"\n}\n'
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


# P23
def test_a_second_connection_waits_for_the_first_one_s_join(made):
    assert made.choose("a").mode == "token"
    waiting = gevent.spawn(made.choose, "b")
    gevent.sleep(0)
    assert not waiting.ready()
    made.joined("a", NEW, "worker")
    assert waiting.get(timeout=2) == Authentication(mode="credential", secret=NEW)


# P24
def test_a_refused_join_lets_the_next_one_try(made):
    made.choose("a")
    waiting = gevent.spawn(made.choose, "b")
    gevent.sleep(0)
    made.released("b")
    made.released("a")
    assert waiting.get(timeout=2).mode == "token"


# P24
def test_a_hanging_join_is_waited_for_only_so_long(made, monkeypatch):
    monkeypatch.setattr(module, "JOIN_WAIT_S", 0.02)
    made.choose("a")
    assert made.choose("b").mode == "token"


# P25, W48
@pytest.mark.parametrize("reason", ["Invalid proof", "Unknown credential", "Credential revoked"])
def test_a_dead_credential_is_deleted(made, path, reason):
    keep(path)
    made.refused(reason, made.choose("a"))
    assert not path.exists()
    assert made.choose("a").mode == "token"


# P26
def test_a_credential_that_a_sibling_replaced_is_kept(made, path):
    keep(path)
    tried = made.choose("a")
    keep(path, NEW)
    made.refused("Unknown credential", tried)
    assert made.choose("a").secret == NEW


# P27, W49
@pytest.mark.parametrize("reason", ["Invalid token", "Role mismatch", "Plan limit: x", "else"])
def test_other_refusals_leave_the_file(made, path, reason):
    keep(path)
    made.refused(reason, made.choose("a"))
    assert path.exists()


def test_a_refused_token_never_deletes_the_file(made, path):
    tried = made.choose("a")
    keep(path)
    made.refused("Unknown credential", tried)
    assert path.exists()


# W54
def test_an_unwritable_place_is_noticed_before_the_token_is_spent(made, path, caplog):
    path.parent.write_text("a file")
    assert made.choose("a") is None
    assert "the join token is not used" in caplog.text
    assert TOKEN not in caplog.text
    path.parent.unlink()
    assert made.choose("a").mode == "token"


# P73
def test_a_write_that_fails_after_the_join_keeps_the_credential_in_memory(
    made, path, monkeypatch, caplog
):
    made.choose("a")

    def refuse(*_args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_atomic", refuse)
        made.joined("a", NEW, "worker")
        assert made.choose("b").secret == NEW
    assert NEW not in caplog.text  # P28
    made.write_pending()
    assert json.loads(path.read_text())["credential"] == NEW


# W63
@pytest.mark.parametrize(("issued", "warned"), [("2025-12-01", True), ("2026-02-20", False)])
def test_an_old_credential_is_warned_of(made, path, caplog, issued, warned):
    keep(path, issued=f"{issued}T00:00:00.000Z")
    with caplog.at_level(logging.WARNING):
        made.warn_of_age()
    assert ("expires soon" in caplog.text) is warned
    assert made.issued_at().startswith(issued)


@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "join-token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o640)
    return file


@pytest.fixture
def from_file(path, token_file):
    return Credentials(path, "worker-7", TOKEN, lambda: NOW, token_file)


def test_a_token_file_is_emptied_once_the_credential_is_on_disk(from_file, path, token_file):
    from_file.choose("a")
    assert token_file.read_text() == TOKEN + "\n"  # not yet: the join may fail
    from_file.joined("a", NEW, "worker")
    assert json.loads(path.read_text())["credential"] == NEW
    assert token_file.read_bytes() == b""
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o640


def test_a_token_file_stays_while_its_credential_is_not_on_disk(
    from_file, path, token_file, monkeypatch
):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(durable, "write_atomic", full)
        from_file.joined("a", NEW, "worker")
    assert token_file.read_text() == TOKEN + "\n"
    from_file.write_pending()
    assert path.exists()
    assert token_file.read_bytes() == b""


def test_a_token_file_with_a_newer_token_is_left_alone(from_file, token_file):
    token_file.write_text("kici_join_v1.new.token\n")
    from_file.joined("a", NEW, "worker")
    assert token_file.read_text() == "kici_join_v1.new.token\n"


@pytest.mark.parametrize("spoil", [lambda f: f.unlink(), lambda f: (f.unlink(), f.mkdir())])
def test_a_token_file_that_cannot_be_wiped_ends_no_join(from_file, path, token_file, spoil, caplog):
    spoil(token_file)
    from_file.joined("a", NEW, "worker")
    assert path.exists()
    assert TOKEN not in caplog.text
