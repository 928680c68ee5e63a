"""The real peer process against a scripted coordinator, on real sockets and links."""

import json
import os
import stat
import subprocess
import time

import pytest

from kici.contracts.link import JobKey
from kici.contracts.link import jobs as link_jobs
from kici.contracts.link.lifecycle import ChildReady, DrainState, Hello, Leave, SnapshotRequest
from kici.contracts.link.views import PeerState
from tests.support import offers
from tests.support.peer_child import PeerChild
from tests.support.ports import free_port
from tests.support.scripted_coordinator import Closed, ScriptedCoordinator

TOKEN = "kici_join_v1.eyJvcmdJZCI6ImRlZmF1bHQifQ." + "c0" * 32
CREDENTIAL = "cd" * 32


@pytest.fixture
def coordinator():
    with ScriptedCoordinator() as scripted:
        yield scripted


def keep_credential(tmp_path, credential="ab" * 32, instance_id="worker-7"):
    path = tmp_path / "kici" / "peer-credential"
    path.parent.mkdir(exist_ok=True)
    content = {"instanceId": instance_id, "credential": credential, "role": "worker"}
    path.write_text(json.dumps(content | {"issuedAt": "2026-11-01T08:15:30.000Z"}, indent=2))
    return path


def reroute(job_id="j1", run_id="r1", message_id="m1", **changes):
    secrets = {"jobConfig": {"secrets": {"S": "hunter2-secret"}}}
    return offers.reroute(job_id, run_id, messageId=message_id, **(secrets | changes))


def terminal(job_id="j1", run_id="r1", state="success", **data):
    return json.dumps(
        {
            "type": "job.progress",
            "kind": "job",
            "runId": run_id,
            "jobId": job_id,
            "jobName": "",
            "stepIndex": 0,
            "stepName": "",
            "state": state,
            "timestamp": 1772353012400,
            "data": data,
        }
    ).encode()


def chunk(text, job_id="j1", run_id="r1"):
    line = {"text": text, "timestamp": 1, "stream": "stdout"}
    message = {"type": "peer.log.chunk", "runId": run_id, "jobId": job_id, "stepIndex": 0}
    return json.dumps(message | {"lines": [line]}).encode()


def accept_job(worker, peer, job_id="j1", run_id="r1"):
    """Offer, acceptance, acknowledgement."""
    worker.send(reroute(job_id, run_id, f"m-{job_id}"))
    offer = peer.pool.expect(link_jobs.JobOffered)
    peer.pool.send(link_jobs.JobAccepted(key=offer.key, message_id=offer.message_id))
    ack = worker.expect("job.reroute.ack")
    assert ack["accepted"], ack
    return offer.key


# P3, P4, P15, P16, P21, P28, P30, W41, W43, W44, W42, W45, W146
def test_a_join_by_token_writes_the_credential_and_a_restart_uses_it(tmp_path, coordinator):
    with PeerChild(tmp_path, [coordinator.url], TOKEN) as peer:
        peer.supervisor.expect(ChildReady)
        worker = coordinator.accept()
        assert worker.path == "/ws/peer"
        assert "sec-websocket-extensions" not in worker.request_headers
        assert "sec-websocket-protocol" not in worker.request_headers
        request = worker.handshake()
        assert request["token"] == TOKEN
        assert request["role"] == "worker"
        assert request["protocolVersion"] == 3
        assert "proof" not in request
        assert None not in request.values()
        worker.welcome(credential=CREDENTIAL)
        beat = worker.expect("peer.heartbeat")
        assert beat["instanceId"] == "worker-7"
        path = tmp_path / "kici" / "peer-credential"
        stored = json.loads(path.read_text())
        assert sorted(stored) == ["credential", "instanceId", "issuedAt", "role"]
        assert stored["credential"] == CREDENTIAL
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        state = peer.web.expect(PeerState, where=lambda s: s.state == "connected")
        assert state.coordinator_id == "coord-a"
        peer.supervisor.send(Leave(within_s=10))
        assert worker.wait_closed().code == 1000
        assert peer.wait_exit() == 0
    assert TOKEN not in peer.log
    assert CREDENTIAL not in peer.log
    with PeerChild(tmp_path, [coordinator.url]):
        assert len(coordinator.accept().handshake()["proof"]) == 64


# P13, P17
def test_mutual_authentication_is_used_when_advertised(tmp_path, coordinator):
    keep_credential(tmp_path)
    from kici.protocol.handshake import credential_hash

    with PeerChild(tmp_path, [coordinator.url]) as peer:
        worker = coordinator.accept()
        request = worker.handshake(schemes=["mutual-v2"])
        assert (request["protocolVersion"], request["scheme"]) == (4, "mutual-v2")
        assert "token" not in request
        assert "proof" not in request
        worker.welcome(psk=credential_hash("ab" * 32), version="0.16.0")
        worker.expect("peer.heartbeat")
        worker.close(1001)
        worker = coordinator.accept()
        worker.handshake(schemes=["mutual-v2"])
        worker.welcome(psk=b"\0" * 32)
        assert worker.wait_closed().code == 4001
        peer.wait_log("could not prove")


# P59, P54, P56, P70, P71, P37, P38, P53, A54, W106
def test_a_job_goes_through_and_its_report_survives_kill_9(tmp_path, coordinator):
    keep_credential(tmp_path)
    outbox = tmp_path / "data" / "worker-outbox"
    with PeerChild(tmp_path, [coordinator.url]) as peer:
        worker = coordinator.join()
        key = accept_job(worker, peer)
        assert key == JobKey(owner=coordinator.url, run_id="r1", job_id="j1")
        assert [path.suffix for path in outbox.glob("*__*")] == [".open"]
        peer.pool.send(link_jobs.JobDispatched(key=key))
        peer.pool.send(link_jobs.JobLogged(key=key, n_lines=1, frame=chunk("one")))
        assert worker.expect("peer.log.chunk")["lines"][0]["text"] == "one"
        worker.drop()
        peer.web.expect(PeerState, where=lambda s: s.state == "disconnected" and s.reason)
        peer.pool.send(link_jobs.JobLogged(key=key, n_lines=1, frame=chunk("two")))
        peer.pool.send(link_jobs.JobFinished(key=key, state="success", frame=terminal()))
        peer.pool.expect(link_jobs.JobStored)
        (record,) = outbox.glob("*__*")
        stored = json.loads(record.read_text())
        assert stored["coordUrl"] == coordinator.url
        assert stored["message"]["state"] == "success"
        assert "hunter2-secret" not in record.read_text() + peer.log
        peer.kill()
        peer.start()
        worker = coordinator.accept()
        worker.handshake()
        worker.welcome()
        seen = [worker.receive() for _ in range(4)]
        types = ["peer.heartbeat", "peer.log.chunk", "peer.log.chunk", "job.progress"]
        assert [one["type"] for one in seen] == types
        # No pong had proven that the first line arrived, and this coordinator does not count
        # lines: twice would be a lie, so the log says what may be missing.
        missing, two = (one["lines"][0]["text"] for one in seen[1:3])
        assert "up to 1 log lines are missing here" in missing
        assert two == "two"
        worker.send({"type": "job.progress.ack", "runId": "r1", "jobId": "j1", "state": "failed"})
        deadline = time.monotonic() + 5
        while list(outbox.glob("*__*")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        peer.supervisor.send(SnapshotRequest(reader="pool"))
        # Earlier ones, from the start and from the pool's greeting, still count the record.
        assert peer.pool.expect(link_jobs.OutboxState, where=lambda s: s.n_concluded == 0)
        peer.supervisor.send(Leave(within_s=10))
        assert worker.expect("peer.leaving") == {
            "type": "peer.leaving",
            "instanceId": "worker-7",
            "term": 0,
        }
        with pytest.raises(Closed) as closed:
            worker.receive()
        assert closed.value.code == 1000
        assert peer.wait_exit() == 0


# P42
def test_a_repeated_reroute_is_accepted_and_offered_once(tmp_path, coordinator):
    keep_credential(tmp_path)
    with PeerChild(tmp_path, [coordinator.url]) as peer:
        worker = coordinator.join()
        worker.send(reroute(message_id="m1"))
        worker.send(reroute(message_id="m2"))
        offer = peer.pool.expect(link_jobs.JobOffered)
        peer.pool.send(link_jobs.JobAccepted(key=offer.key, message_id="m1"))
        acks = [worker.expect("job.reroute.ack") for _ in range(2)]
        assert {ack["messageId"] for ack in acks} == {"m1", "m2"}
        worker.send(reroute(message_id="m3"))
        assert worker.expect("job.reroute.ack") == {
            "type": "job.reroute.ack",
            "messageId": "m3",
            "accepted": True,
        }
        peer.pool.boot_id = "pool-2"
        peer.pool.send(Hello(name="pool", pid=1))
        again = peer.pool.expect(link_jobs.JobOffered)
        assert again.again
        assert json.loads(again.reroute)["jobConfig"]["secrets"]["S"] == "hunter2-secret"


# P10, P49
def test_two_coordinators_with_one_run_id_each_get_their_own(tmp_path, coordinator):
    keep_credential(tmp_path)
    with (
        ScriptedCoordinator(instance_id="coord-b") as second,
        PeerChild(tmp_path, [coordinator.url, second.url]) as peer,
    ):
        worker, other = coordinator.join(), second.join()
        key, twin = accept_job(worker, peer), accept_job(other, peer)
        assert key != twin
        peer.pool.send(link_jobs.JobProgressed(key=twin, frame=terminal(state="running")))
        assert other.expect("job.progress")["state"] == "running"
        worker.drop()
        peer.web.expect(PeerState, where=lambda s: s.index == 0 and s.reason)
        peer.pool.send(link_jobs.JobFinished(key=twin, state="failed", frame=terminal()))
        assert other.expect("job.progress")["state"] == "success"
        replayed = coordinator.accept()
        replayed.handshake()
        replayed.welcome()
        replayed.expect("peer.heartbeat")
        replayed.nothing_for(0.2)


# P51
def test_a_job_quicker_than_the_disk_loses_nothing_and_keeps_its_order(tmp_path, coordinator):
    keep_credential(tmp_path)
    with PeerChild(tmp_path, [coordinator.url]) as peer:
        worker = coordinator.join()
        for number in range(5):
            ids = {"job_id": f"j{number}", "run_id": f"r{number}"}
            worker.send(reroute(message_id=f"m{number}", **ids))
            key = peer.pool.expect(link_jobs.JobOffered).key
            peer.pool.send(link_jobs.JobAccepted(key=key, message_id=f"m{number}"))
            for step in range(3):
                frame = terminal(state="running", step=step, **ids)
                peer.pool.send(link_jobs.JobProgressed(key=key, frame=frame))
            frame = terminal(**ids)
            peer.pool.send(link_jobs.JobFinished(key=key, state="success", frame=frame))
        heard = {f"j{number}": [] for number in range(5)}
        n_acks = 0
        while min(map(len, heard.values())) < 4 or n_acks < 5:
            message = worker.receive()
            n_acks += message["type"] == "job.reroute.ack"
            if message["type"] == "job.progress":
                heard[message["jobId"]].append(message.get("data", {}).get("step", "end"))
        assert set(map(tuple, heard.values())) == {(0, 1, 2, "end")}


# P23, W56
def test_only_one_connection_presents_the_token(tmp_path, coordinator):
    with (
        ScriptedCoordinator(instance_id="coord-b") as second,
        PeerChild(tmp_path, [coordinator.url, second.url], TOKEN),
    ):
        worker, other = coordinator.accept(), second.accept()
        worker.hello()
        other.hello()
        first, waiting = (worker, other) if _asks_first(worker, other) else (other, worker)
        assert first.request["token"] == TOKEN
        first.welcome(credential=CREDENTIAL)
        first.expect("peer.heartbeat")
        waiting.request = waiting.receive()
        assert len(waiting.request["proof"]) == 64
        assert "token" not in waiting.request


def _asks_first(worker, other):
    """Read both hello responses; True when ``worker`` is the one that asks."""
    from kici.protocol import handshake

    for side in (worker, other):
        answer = json.loads(side.receive_frame())
        side._other = handshake.decode_key(answer["ephemeralPublicKey"])
        side._key = handshake.session_key(side._private, side._other, side.nonce)
        side.sealer = handshake.Sealer(side._key)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        for side in (worker, other):
            try:
                side.request = side.receive(0.05)
            except TimeoutError:
                continue
            return side is worker
    raise AssertionError("nobody asked")


# P25, W48
@pytest.mark.parametrize("reason", ["Invalid proof", "Unknown credential", "Credential revoked"])
def test_a_dead_credential_is_deleted_and_the_token_tried(tmp_path, coordinator, reason):
    path = keep_credential(tmp_path)
    with PeerChild(tmp_path, [coordinator.url], TOKEN):
        worker = coordinator.accept()
        assert "proof" in worker.handshake()  # P18
        worker.refuse(reason)
        assert coordinator.accept().handshake()["token"] == TOKEN
        assert not path.exists()


# P27, W49, W51, W52, W59
def test_other_refusals_keep_the_credential_and_are_logged(tmp_path, coordinator):
    path = keep_credential(tmp_path)
    with PeerChild(tmp_path, [coordinator.url], TOKEN) as peer:
        worker = coordinator.accept()
        worker.handshake()
        worker.refuse("Unsupported protocol version: 3 < 4", 4005)
        assert "proof" in coordinator.accept().handshake()
        assert path.exists()
        peer.wait_log("Connection to coordinator failed")
    failed = [line for line in peer.log.splitlines() if "Connection to coordinator failed" in line]
    line = json.loads(failed[0])
    assert line["level"] == "WARNING"
    assert "4005" in line["error"]
    assert "Unsupported protocol version" in line["error"]
    assert {"url", "attempt", "delayMs"} <= line.keys()


# P9, P14, W58
@pytest.mark.parametrize("code", [1000, 1001, 1009, 4001, 4002, 4003, 4005, 4020, 4999])
def test_every_close_code_leads_to_another_dial(tmp_path, coordinator, code):
    keep_credential(tmp_path)
    with PeerChild(tmp_path, [coordinator.url]):
        coordinator.join().close(code, "x")
        worker = coordinator.accept()
        worker.send_frame("not json")
        worker.send_frame('{"type":"peer.hello","nonce":"x"}')
        worker.handshake(futureKey={"a": 1})


# P20, W50
def test_without_any_secret_it_stays_and_says_so(tmp_path, coordinator):
    with PeerChild(tmp_path, [coordinator.url]) as peer:
        worker = coordinator.accept()
        worker.hello()
        assert json.loads(worker.receive_frame())["type"] == "peer.hello.response"
        closed = worker.wait_closed()
        assert (closed.code, closed.reason) == (1000, "No auth method")
        coordinator.accept()
        assert "No auth method available" in peer.log


def test_no_listener_and_no_101_are_told_apart(tmp_path, coordinator):
    nobody = f"ws://127.0.0.1:{free_port()}"
    with PeerChild(tmp_path, [coordinator.url, nobody], TOKEN) as peer:
        raw = coordinator.accept_raw()
        raw.recv(4096)
        raw.sendall(b"HTTP/1.1 404 Not Found\r\n\r\n<html>")
        peer.wait_log("HTTP 404 instead of 101")
        peer.wait_log("connection refused")


# P35, P39
def test_draining_is_advertised_at_once(tmp_path, coordinator):
    keep_credential(tmp_path)
    with PeerChild(tmp_path, [coordinator.url]) as peer:
        worker = coordinator.join()
        state = DrainState(rev=1, draining=True, stopping=False, reason="x")
        peer.supervisor.send(state)
        assert worker.expect("peer.heartbeat", 1.0)["draining"] is True


# P68, P65, P66, P69
def test_noise_is_dropped_and_questions_are_answered(tmp_path, coordinator):
    keep_credential(tmp_path)
    with PeerChild(tmp_path, [coordinator.url]) as peer:
        worker = coordinator.join()
        for noise in (
            {"type": "raft.append.entries", "term": 1, "leaderId": "x"},
            {"type": "new.message"},
            {"type": "job.reroute"},
            ["no", "object"],
        ):
            worker.send(noise)
        for _ in range(9):
            worker.send_frame("AAAA")
        worker.send({"type": "peer.config.reload", "messageId": "m-18"})
        answer = worker.expect("peer.config.reload.response")
        assert (answer["messageId"], answer["success"]) == ("m-18", False)
        ask = {"type": "peer.logs.collect.request", "messageId": "m-19", "logWindowHours": 4}
        worker.send(ask | {"includeCoordinatorMesh": False, "selection": {"all": "yes"}})
        assert worker.expect("peer.logs.collect.error")["messageId"] == "m-19"
        worker.send({"type": "peer.agent-token.revoke", "tokenId": "t", "senderInstanceId": "c"})
        assert peer.pool.expect(link_jobs.TokenRevoked).token_id == "t"  # P67
        cancel = {"type": "peer.job.cancel", "runId": "r", "jobId": "j", "reason": "why"}
        worker.send(cancel | {"force": True})
        told = peer.pool.expect(link_jobs.JobCancel)
        assert (told.run_id, told.job_id, told.reason, told.force) == ("r", "j", "why", True)
        for _ in range(10):
            worker.send_frame("AAAA")
        assert worker.wait_closed().code == 1000


# P10
def test_the_second_url_of_one_coordinator_is_dropped_and_the_first_joins_anew(
    tmp_path, coordinator
):
    """To a reference coordinator the first is dead when the second is closed (3.10)."""
    keep_credential(tmp_path)
    with (
        ScriptedCoordinator() as twin,
        PeerChild(tmp_path, [coordinator.url, twin.url]) as peer,
    ):
        first = coordinator.join()
        second = twin.accept()
        second.handshake()
        second.welcome()
        assert second.wait_closed().reason == "Duplicate coordinator"
        peer.wait_log("Two URLs lead to one coordinator")
        assert first.wait_closed().code == 1000
        coordinator.join()


def test_a_peer_whose_data_directory_is_unusable_says_why_and_gives_up(tmp_path):
    (tmp_path / "data").write_text("a file")
    with PeerChild(tmp_path, ["ws://127.0.0.1:1"], TOKEN) as peer:
        assert peer.wait_exit() == 3


def test_the_peer_leaves_when_its_supervisor_is_gone(tmp_path, coordinator):
    with PeerChild(tmp_path, [coordinator.url], TOKEN) as peer:
        peer.supervisor.expect(ChildReady)
        peer.supervisor.raw.close()
        assert peer.wait_exit() == 4


# W54
def test_a_credential_that_cannot_be_written_keeps_the_token_unspent(tmp_path, coordinator):
    (tmp_path / "kici").write_text("a file where the directory should be")
    with PeerChild(tmp_path, [coordinator.url], TOKEN) as peer:
        worker = coordinator.accept()
        worker.hello()
        worker.receive_frame()
        assert worker.wait_closed().reason == "No auth method"
        os.unlink(tmp_path / "kici")
        assert coordinator.accept().handshake()["token"] == TOKEN
        assert "cannot be written" in peer.log


# P63
def test_a_coordinator_that_stops_reading_gets_everything_later(tmp_path, coordinator):
    keep_credential(tmp_path)
    n_frames, text = 600, "x" * 20_000
    with PeerChild(tmp_path, [coordinator.url], log_spool_max_bytes=2**20) as peer:
        worker = coordinator.join()
        key = accept_job(worker, peer)
        granted = [m.n_bytes for m in peer.pool.seen if isinstance(m, link_jobs.LogCredit)]
        credit, n_sent, n_stalls = sum(granted), 0, 0
        while n_sent < n_frames:
            frame = chunk(f"{n_sent} {text}")
            while credit < len(frame):
                try:
                    credit += peer.pool.expect(link_jobs.LogCredit, 0.2).n_bytes
                except TimeoutError:
                    n_stalls += 1
                    for _ in range(20):
                        _check_line(worker)
            peer.pool.send(link_jobs.JobLogged(key=key, n_lines=1, frame=frame))
            credit -= len(frame)
            n_sent += 1
        peer.pool.send(link_jobs.JobFinished(key=key, state="success", frame=terminal()))
        assert n_stalls  # credit was held back while nobody read
        while _check_line(worker) != n_frames - 1:
            pass
        assert worker.expect("job.progress")["state"] == "success"
        shown = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(peer.pid)], capture_output=True, check=True
        )
        assert int(shown.stdout) < 150_000  # KiB


def _check_line(worker):
    """The next log line carries the next number: returned."""
    number = int(worker.expect("peer.log.chunk")["lines"][0]["text"].split()[0])
    assert number == getattr(worker, "n_lines", 0)
    worker.n_lines = number + 1
    return number


# P72
def test_thirty_megabytes_of_outputs_are_reported_small(tmp_path, coordinator):
    keep_credential(tmp_path)
    with PeerChild(tmp_path, [coordinator.url]) as peer:
        worker = coordinator.join()
        key, other = accept_job(worker, peer), accept_job(worker, peer, "j2")
        huge = terminal(outputs={"s": {"n": "x" * (30 * 2**20)}})
        peer.pool.send(link_jobs.JobFinished(key=key, state="success", frame=huge))
        report = worker.expect("job.progress")
        assert report["state"] == "success"
        assert "dropped" in report["data"]["error"]
        frame = terminal("j2")
        peer.pool.send(link_jobs.JobFinished(key=other, state="success", frame=frame))
        assert worker.expect("job.progress")["jobId"] == "j2"
