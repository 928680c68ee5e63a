"""Log bundles of the real peer process, for a scripted coordinator (peer spec 4.18, 4.19)."""

import base64
import io
import json
import os
import tempfile
import time
import zipfile
from pathlib import Path

import pytest

from kici.contracts.link.lifecycle import Hello
from kici.contracts.link.logs import AgentLogs, LogsCancel, LogsGathered, LogsRequest
from kici.contracts.link.views import PoolCapacity
from tests.peer.test_main import CREDENTIAL, TOKEN, coordinator, keep_credential  # noqa: F401
from tests.support.peer_child import PeerChild

LOG = "orchestrator-worker-7-2026-11-25.log"


def ask(worker, message_id="m-19", hours=4, **selection):
    worker.send(
        {
            "type": "peer.logs.collect.request",
            "messageId": message_id,
            "logWindowHours": hours,
            "includeCoordinatorMesh": False,
            "selection": selection or {"all": True},
        }
    )


def bundle(worker, message_id="m-19"):
    """The ZIP that comes, with the rules of 4.19 checked on the way."""
    content, seq = b"", 0
    while True:
        chunk = worker.expect("peer.logs.collect.chunk", skip=("peer.heartbeat", "job.progress"))
        assert (chunk["messageId"], chunk["seq"]) == (message_id, seq)
        content += base64.b64decode(chunk["dataB64"], validate=True)
        if chunk["isLast"]:
            return zipfile.ZipFile(io.BytesIO(content))
        seq += 1


def inner(archive):
    return zipfile.ZipFile(io.BytesIO(archive.read("local/bundle.zip")))


def nodes(archive):
    return json.loads(archive.read("fleet-manifest.json"))["nodes"]


def say(peer, agent_id, content=None, status="ok", error="", request_id=""):
    """What the pool says of one agent."""
    row = AgentLogs(
        request_id=request_id,
        agent_id=agent_id,
        status=status,
        error=error,
        n_bytes=len(content or b""),
    )
    if content is None:
        peer.pool.send(row)
        return
    with tempfile.TemporaryFile(dir=peer.config.settings.runtime_dir) as file:
        file.write(content)
        file.flush()
        file.seek(0)
        peer.pool.send(row, [file.fileno()])


def open_files(pid):
    """Files without a name in the runtime directory, which bundles are made in."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(entry)
        except OSError:
            continue
        if "/run/" in target and "(deleted)" in target:
            found.append(target)
    return found


def until(condition, what, timeout_s=10.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def no_file(peer):
    until(lambda: not open_files(peer.pid), f"still open: {open_files(peer.pid)}")


@pytest.fixture
def logs(tmp_path):
    """A log directory; the worker's own log file of the test is on stdout."""
    directory = tmp_path / "logs"
    directory.mkdir()
    return directory


@pytest.fixture
def peer(tmp_path, coordinator, logs):  # noqa: F811
    keep_credential(tmp_path, CREDENTIAL)
    (tmp_path / "run").mkdir()
    with PeerChild(tmp_path, [coordinator.url], TOKEN, log_dir=str(logs)) as child:
        yield child
        assert [entry.name for entry in (tmp_path / "run").iterdir() if entry.is_file()] == []


# P66 W145
def test_the_bundle_holds_the_workers_logs_configuration_and_state(
    peer,
    coordinator,  # noqa: F811
    logs,
):
    (logs / LOG).write_text(f'{{"message":"hello","token":"{CREDENTIAL}"}}\n' * 3)
    (logs / "secrets.txt").write_text("not a log of ours")
    worker = coordinator.join()
    peer.pool.send(
        PoolCapacity(
            rev=1, agents=(), scalers=(), n_active_jobs=2, n_queued_jobs=0, n_starting_jobs=0,
            refusing="disk is full",
        )
    )  # fmt: skip
    ask(worker)
    wanted = peer.pool.expect(LogsRequest)
    assert (wanted.hours, wanted.agent_ids, wanted.within_s) == (4.0, None, 30.0)
    peer.pool.send(LogsGathered(request_id=wanted.request_id))
    with bundle(worker) as archive, inner(archive) as local:
        assert set(archive.namelist()) == {"local/bundle.zip", "fleet-manifest.json"}
        assert local.testzip() is None
        assert set(local.namelist()) == {
            "manifest.json", "config/config.json", "system/info.json",
            "diagnostics/results.json", "cluster/health.json", f"logs/{LOG}",
        }  # fmt: skip
        (node,) = nodes(archive)
        assert (node["id"], node["kind"], node["status"]) == ("worker-7", "local", "ok")
        assert node["bytes"] == len(archive.read("local/bundle.zip"))
        assert local.read(f"logs/{LOG}").count(b'"hello","token":"***"') == 3
        settings = json.loads(local.read("config/config.json"))["settings"]
        assert settings["KICI_CLUSTER_INSTANCE_ID"] == "worker-7"
        assert settings["KICI_CLUSTER_JOIN_TOKEN"] == "***"
        health = json.loads(local.read("cluster/health.json"))
        assert health["coordinators"][0]["state"] == "connected"
        assert health["pool"]["n_active_jobs"] == 2
        findings = json.loads(local.read("diagnostics/results.json"))
        assert {"name": "pool", "status": "warn", "detail": "disk is full"} in findings
        for name in local.namelist():
            for hidden in (CREDENTIAL, TOKEN.split(".")[2], "ab" * 32):
                assert hidden.encode() not in local.read(name), name
    no_file(peer)


# P66
def test_agents_come_with_their_zip_or_with_the_reason_why_not(peer, coordinator):  # noqa: F811
    worker = coordinator.join()
    ask(worker, all=False, agentIds=["a/1", "silent", "lost"], workerInstanceIds=["other"])
    wanted = peer.pool.expect(LogsRequest)
    assert wanted.agent_ids == ("a/1", "silent", "lost")
    say(peer, "a/1", b"PK-its-own-zip" * 20_000, request_id=wanted.request_id)
    say(peer, "silent", None, "timeout", "no bundle within 30 s", wanted.request_id)
    say(peer, "foreign", b"PK", request_id="of nobody")
    peer.pool.send(LogsGathered(request_id=wanted.request_id, reason="3 agents were left out"))
    with bundle(worker) as archive:
        assert archive.read("agents/a_1.zip") == b"PK-its-own-zip" * 20_000
        rows = {node["id"]: node for node in nodes(archive)}
        assert rows["a/1"] == {"id": "a/1", "kind": "agent", "status": "ok", "bytes": 280_000}
        assert (rows["silent"]["status"], rows["silent"]["error"]) == (
            "timeout",
            "no bundle within 30 s",
        )
        assert rows["agents"]["error"] == "3 agents were left out"
        assert "foreign" not in rows
    no_file(peer)


# P66
def test_a_second_wish_gets_an_error_and_the_first_its_bundle(peer, coordinator):  # noqa: F811
    worker = coordinator.join()
    ask(worker)
    wanted = peer.pool.expect(LogsRequest)
    ask(worker, "m-20")
    refused = worker.expect("peer.logs.collect.error")
    assert (refused["messageId"], refused["message"]) == (
        "m-20",
        "Another log collection is running",
    )
    peer.pool.send(LogsGathered(request_id=wanted.request_id))
    bundle(worker).close()
    ask(worker, "m-21")
    wanted = peer.pool.expect(LogsRequest)
    peer.pool.send(LogsGathered(request_id=wanted.request_id))
    bundle(worker, "m-21").close()


def test_a_pool_that_dies_meanwhile_costs_its_agents_and_not_the_bundle(
    peer,
    coordinator,  # noqa: F811
):
    worker = coordinator.join()
    ask(worker)
    wanted = peer.pool.expect(LogsRequest)
    say(peer, "a1", b"PK..", request_id=wanted.request_id)
    peer.pool.send(Hello(name="pool", pid=1))
    with bundle(worker) as archive:
        assert [node["status"] for node in nodes(archive)] == ["ok", "ok", "error"]
        assert "anew" in nodes(archive)[2]["error"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc")
def test_a_cut_link_ends_the_collection_and_leaves_no_file(peer, coordinator, logs):  # noqa: F811
    with (logs / LOG).open("wb") as log:
        log.writelines(os.urandom(50_000).hex().encode() + b"\n" for _ in range(400))
    worker = coordinator.join()
    # While agents are asked.
    ask(worker)
    wanted = peer.pool.expect(LogsRequest)
    say(peer, "a1", b"PK..", request_id=wanted.request_id)
    until(lambda: open_files(peer.pid), "the agent's bundle is there")
    worker.drop()
    assert peer.pool.expect(LogsCancel).request_id == wanted.request_id
    no_file(peer)
    # While chunks are on their way: the coordinator reads one and no more.
    worker = coordinator.join()
    ask(worker)
    wanted = peer.pool.expect(LogsRequest)
    peer.pool.send(LogsGathered(request_id=wanted.request_id))
    chunk = worker.expect("peer.logs.collect.chunk", timeout_s=30)
    assert not chunk["isLast"]
    assert open_files(peer.pid)
    worker.drop()
    no_file(peer)
    # And the next one works.
    for path in logs.iterdir():
        path.unlink()
    worker = coordinator.join()
    ask(worker)
    wanted = peer.pool.expect(LogsRequest)
    peer.pool.send(LogsGathered(request_id=wanted.request_id))
    bundle(worker).close()


def test_a_runtime_directory_that_takes_no_file_is_one_error(
    peer,
    coordinator,  # noqa: F811
    tmp_path,
):
    worker = coordinator.join()
    moved = (tmp_path / "run").rename(tmp_path / "away")
    ask(worker)
    wanted = peer.pool.expect(LogsRequest)
    peer.pool.send(LogsGathered(request_id=wanted.request_id))
    error = worker.expect("peer.logs.collect.error")
    assert error["messageId"] == "m-19"
    assert "No such file" in error["message"]
    moved.rename(tmp_path / "run")
    peer.wait_log("No log bundle could be made")


# P66
def test_heartbeats_and_receipts_go_on_while_a_large_bundle_goes_out(
    peer,
    coordinator,  # noqa: F811
    logs,
):
    with (logs / LOG).open("wb") as log:
        log.writelines(os.urandom(50_000).hex().encode() + b"\n" for _ in range(100))
    worker = coordinator.join()
    ask(worker)
    wanted = peer.pool.expect(LogsRequest)
    peer.pool.send(LogsGathered(request_id=wanted.request_id))
    first = worker.expect("peer.logs.collect.chunk", timeout_s=30)
    assert first["seq"] == 0
    worker.send({"type": "peer.config.reload", "messageId": "m-18"})
    seen = []
    while not seen or not seen[-1].get("isLast"):
        seen.append(worker.receive())
    kinds = [message["type"] for message in seen]
    assert kinds.index("peer.config.reload.response") < len(kinds) - 1
    chunks = [message["seq"] for message in seen if "seq" in message]
    assert chunks == list(range(1, len(chunks) + 1))
