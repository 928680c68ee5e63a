"""What a service does with messages that are not about placing jobs."""

import logging

import pytest

from kici.contracts.wire.peer.fleet import PeerCacheUploadRequest
from kici.contracts.wire.peer.heartbeat import HeartbeatReceived
from kici.coordinator.registry import MAX_WORD
from kici.coordinator.service import Service
from kici.coordinator.settings import CoordinatorSettings
from kici.coordinator.store import StoreError
from kici.coordinator.tokens import CREDENTIAL_LIFE_MS
from kici.protocol.coordinator_actions import Heard, Joined, Left
from kici.protocol.coordinator_auth import token_hash
from tests.coordinator.world import FakeLink


class FakeSession:
    instance_id = "w1"


class FakeConnection(FakeLink):
    session = FakeSession()


@pytest.fixture
def service(tmp_path):
    made = Service(CoordinatorSettings(data_dir=str(tmp_path / "data")))
    yield made
    made.store.close()


@pytest.fixture
def peer(service):
    made = service.tokens.mint("worker")
    service.tokens.join(token_hash(made.token), "w1", "worker")
    connection = FakeConnection()
    service._hear(connection, Joined("w1", "worker", "0.1.0"))
    return connection


# C54
def test_cache_upload_request_gets_no_url(service, peer):
    asked = PeerCacheUploadRequest(
        message_id="m", run_id="r", job_id="j", cache_type="deps", hash="../x", size_bytes=1
    )
    service._hear(peer, Heard(asked))
    assert peer.take("peer.cache.upload.response")[0]["uploadUrl"] == ""


# C24
def test_heartbeat_updates_the_authenticated_instance_only(service, peer):
    service._hear(peer, Heard(HeartbeatReceived(instance_id="w2", draining=True)))
    assert service.registry.get("w1").draining
    assert service.registry.get("w2") is None


def test_what_a_worker_says_of_itself_is_cut(service, peer):
    service._hear(FakeConnection(), Joined("w1", "worker", "9" * 100_000))
    again = service.registry.get("w1").link
    beat = HeartbeatReceived(instance_id="w1", hostname="h" * 100_000)
    service._hear(again, Heard(beat))
    entry = service.registry.get("w1")
    assert (len(entry.version), len(entry.hostname)) == (MAX_WORD, MAX_WORD)


def test_old_tokens_and_jobs_are_looked_for_now_and_then(service, peer):
    service.store.write("UPDATE join_tokens SET expires_at = 1")
    service._prune_at = 0.0
    service.tick()
    assert service.store.read("SELECT * FROM join_tokens") == []


# C27
def test_leaving_ends_routing_before_the_close(service, peer):
    service._hear(peer, Left())
    assert service.registry.connected() == []
    assert service.cluster_health()["connectedPeers"] == 0
    assert service.cluster_health()["status"] == "degraded"


# C18
def test_messages_of_a_superseded_connection_are_dropped(service, peer):
    service._hear(FakeConnection(), Joined("w1", "worker", "0.1.0"))
    assert peer.ended == (4001, "Superseded")
    service._hear(peer, Heard(HeartbeatReceived(instance_id="w1", draining=True)))
    assert not service.registry.get("w1").draining
    service._gone(peer)
    assert service.cluster_health()["connectedPeers"] == 1


# C21
def test_credential_that_ends_within_two_weeks_is_warned_about(service, peer, caplog):
    day = 86_400_000
    service.store.write(
        "UPDATE peer_credentials SET expires_at = expires_at - ?", CREDENTIAL_LIFE_MS - 13 * day
    )
    with caplog.at_level(logging.WARNING, "kici.coordinator"):
        service._hear(FakeConnection(), Joined("w1", "worker", "0.1.0"))
    (record,) = [r for r in caplog.records if r.message == "Peer credential expires soon"]
    assert record.daysLeft == 12


# C52
def test_a_database_that_refuses_does_not_break_a_joining_peer(service, peer, monkeypatch):
    def refuse(name, now):
        raise StoreError("disk full")

    monkeypatch.setattr(service.dispatcher, "joined", refuse)
    again = FakeConnection()
    service._hear(again, Joined("w1", "worker", "0.1.0"))
    assert service.registry.get("w1").link is again
