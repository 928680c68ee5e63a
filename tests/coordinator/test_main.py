"""A real coordinator process, real sockets, a scripted worker (peer spec 7.2)."""

import contextlib
import json
import signal
import sqlite3
import subprocess

import pytest

from tests.coordinator.conftest import clean_env, command
from tests.support.dialer import ScriptedWorker, agent, forged_token
from tests.support.waiting import wait_for

NATIVE = ("linux", "runtime:native")


def native(name="a1", free=1, **more):
    return agent(name, NATIVE, free, **more)


# C6, C10, C23: token first, credential afterwards, a heartbeat right after each.
def test_worker_joins_with_a_token_and_comes_back_with_its_credential(coordinator):
    with coordinator.worker() as worker:
        assert worker.joined["role"] == "worker"
        credential = worker.joined["sessionCredential"]
        assert len(credential) == 64
        worker.expect("peer.heartbeat", draining=False)
        assert coordinator.ask("GET", "/cluster/health", token="")[1]["connectedPeers"] == 1
    with coordinator.worker(credential=credential) as worker:
        assert "sessionCredential" not in worker.joined
        worker.expect("peer.heartbeat")


def test_mutual_authentication_works_with_token_and_with_credential(coordinator):
    with coordinator.worker(mutual=True) as worker:
        credential = worker.dialer.credential
        worker.expect("peer.heartbeat")
    with coordinator.worker(credential=credential, mutual=True) as worker:
        worker.expect("peer.heartbeat")
        worker.beat(native())
        wait_for(lambda: peers(coordinator)[0]["agentCount"] == 1)


def peers(coordinator):
    return coordinator.ask("GET", "/cluster/peers", token="")[1]["peers"]


# C43, C45, C53: one job from submission to its acknowledged end, with its log.
def test_job_runs_to_its_end_and_its_log_is_kept_in_order(coordinator, job):
    with coordinator.worker() as worker:
        worker.beat(native())
        job_id = coordinator.submit(job)
        reroute = worker.accept()
        assert reroute["jobId"] == job_id
        assert reroute["jobConfig"]["native"]["steps"][0]["run"] == "echo hello"
        assert reroute["runsOnLabels"] == [["linux", "runtime:native"]]
        worker.report(reroute, "running")
        worker.report(reroute, "running", kind="step", stepName="hello")
        chunk = {"type": "peer.log.chunk", "runId": reroute["runId"], "jobId": job_id}
        lines = [{"text": "one", "timestamp": 5, "stream": "stdout"}]
        worker.say(chunk | {"stepIndex": 0, "lines": lines})
        worker.say(chunk | {"stepIndex": 0, "lines": ["two", "three"], "timestamp": 6})
        worker.report(reroute, "success", kind="step", stepName="hello", data={"exitCode": 0})
        worker.report(reroute, "success", data={"durationMs": 12})
        worker.expect("job.progress.ack", jobId=job_id, state="success")
    shown = coordinator.job(job_id)
    assert shown["state"] == "success"
    assert shown["holder"] == "worker-7"
    assert [step["state"] for step in shown["steps"]] == ["success"]
    log = coordinator.ask("GET", f"/api/v1/jobs/{job_id}/log")[1]
    texts = [line["text"] for chunk in log["chunks"] for line in chunk["lines"]]
    assert texts == ["one", "two", "three"]


# C18
def test_newer_connection_of_an_instance_supersedes_the_older(coordinator, job):
    with coordinator.worker() as old:
        credential = old.dialer.credential
        with coordinator.worker(credential=credential) as new:
            assert old.closed() == (4001, "Superseded")
            new.beat(native())
            coordinator.submit(job)
            new.accept()
            assert coordinator.ask("GET", "/cluster/health")[1]["connectedPeers"] == 1


# C19: by the API, and by kici-admin on the database file.
@pytest.mark.parametrize("way", ["api", "file"])
def test_revoking_a_credential_closes_its_open_link(coordinator, way):
    with coordinator.worker() as worker:
        worker.expect("peer.heartbeat")
        if way == "api":
            assert coordinator.ask("POST", "/api/v1/admin/peers/worker-7/revoke")[0] == 200
        else:
            words = ("peer", "revoke", "worker-7", "--data-dir", coordinator.data_dir)
            subprocess.run(command("admin", *words), env=clean_env(), check=True)
        assert worker.closed() == (4001, "Credential revoked")
        credential = worker.dialer.credential
    with ScriptedWorker(coordinator.peer_url, credential=credential) as again:
        assert again.join()["reason"] == "Unknown credential"
        assert again.closed() == (4001, "Unknown credential")


# C17
def test_frame_before_the_verdict_closes_the_link(coordinator):
    with ScriptedWorker(coordinator.peer_url, token=coordinator.join_token()) as worker:
        first, second = worker.dialer.answer(worker.socket.recv(10))
        sock = worker.socket.socket
        # One segment, so that both frames are in the coordinator's hands at once.
        with worker.socket.protocol_mutex:
            for text in (first, second, worker.dialer.seal(worker.dialer.heartbeat())):
                worker.socket.protocol.send_text(text.encode())
            sock.sendall(b"".join(worker.socket.protocol.data_to_send()))
        assert worker.closed()[0] == 4003


# C9, C15: forged roles grant nothing; five failures a minute are enough.
def test_address_with_five_failures_is_refused_without_hello(coordinator):
    token = forged_token(coordinator.join_token(), role="coordinator")
    with ScriptedWorker(coordinator.peer_url, token=token, role="coordinator") as worker:
        assert worker.join()["reason"] == "Role mismatch"
    for _ in range(4):
        with ScriptedWorker(coordinator.peer_url, token="kici_join_v1.x.y") as worker:
            assert worker.join()["reason"] == "Invalid token"
            assert worker.closed() == (4001, "Invalid token")
    with ScriptedWorker(coordinator.peer_url, token=token) as worker:
        assert worker.closed() == (4001, "Rate limited")


# C15, C22: what used to raise counts like any other wrong request, and leaves no trace.
def test_absurd_requests_are_refused_counted_and_leave_no_stack_trace(coordinator):
    odd = forged_token(coordinator.join_token(), expiry=10**30)
    half = forged_token(coordinator.join_token(), orgId="\ud800")
    deep = '{"x":' + "[" * 20_000
    with ScriptedWorker(coordinator.peer_url) as worker:
        worker.socket.recv(10)
        worker.socket.send(deep + "]" * 20_000 + ',"type":"peer.hello.response"}')
        assert worker.closed() == (4003, "Expected hello response")
    for said in (
        {"token": odd, "mutual": True},
        {"token": half, "mutual": True},
        {"token": odd, "protocolVersion": -(10**400)},
        {"token": half, "protocolVersion": -1e308},
        {"token": odd, "mutual": True, "instance_id": "worker-8"},
    ):
        with ScriptedWorker(coordinator.peer_url, **said) as worker:
            assert not worker.join()["accepted"]
            assert worker.closed()[0] in (4001, 4005)
    with ScriptedWorker(coordinator.peer_url, token=odd) as worker:
        assert worker.closed() == (4001, "Rate limited")
    assert "Traceback" not in coordinator.log.read_text()


def test_a_stranger_may_send_little_and_a_worker_much(coordinator):
    with ScriptedWorker(coordinator.peer_url) as worker:
        worker.socket.recv(10)
        worker.socket.send('{"type":"peer.hello.response","x":"' + "y" * 70_000 + '"}')
        assert worker.closed()[0] == 1009
    with coordinator.worker() as worker:
        worker.beat(x="y" * 1_000_000)
        assert worker.socket.ping().wait(10), "behind the large frame"


# C57
def test_sigterm_tells_draining_and_goodbye_and_closes_with_1001(coordinator):
    with coordinator.worker() as worker:
        worker.expect("peer.heartbeat", draining=False)
        coordinator.process.send_signal(signal.SIGTERM)
        worker.expect("peer.heartbeat", draining=True)
        worker.expect("peer.leaving")
        assert worker.closed() == (1001, "Server shutting down")
    assert coordinator.process.wait(10) == 0


# C52, C59: kill -9 in the middle of a job; its worker returns and reports the end.
def test_job_survives_the_death_of_the_coordinator(coordinator, job):
    with coordinator.worker() as worker:
        worker.beat(native())
        job_id = coordinator.submit(job | {"secrets": {"T": "hush-hush"}})
        reroute = worker.accept()
        worker.report(reroute, "running")
        coordinator.in_state(job_id, "running")
        credential = worker.dialer.credential
        coordinator.end(signal.SIGKILL)
    coordinator.start()
    assert coordinator.job(job_id)["state"] == "running"
    with coordinator.worker(credential=credential) as worker:
        worker.report(reroute, "success")
        worker.expect("job.progress.ack", jobId=job_id)
    assert coordinator.job(job_id)["state"] == "success"


def test_waiting_job_keeps_its_secrets_over_a_restart(coordinator, job):
    document = job | {"secrets": {"T": "hush-hush"}}
    job_id = coordinator.submit(document)
    coordinator.end(signal.SIGKILL)
    coordinator.start()
    with coordinator.worker() as worker:
        worker.beat(native())
        reroute = worker.accept()
        assert reroute["jobId"] == job_id
        assert reroute["jobConfig"]["secrets"] == {"T": "hush-hush"}


# C56
def test_no_secret_reaches_a_file_or_the_log(coordinator, job):
    with coordinator.worker() as worker:
        worker.beat(native())
        job_id = coordinator.submit(job | {"secrets": {"T": "hush-hush-9"}})
        reroute = worker.accept()
        worker.report(reroute, "failed", data={"error": "exit code 1"})
        worker.expect("job.progress.ack")
        secrets = ["hush-hush-9", worker.dialer.token.split(".")[2], worker.dialer.credential]
        assert coordinator.job(job_id)["reason"] == "exit code 1"
    for path in [coordinator.log, *coordinator.data_dir.iterdir()]:
        for secret in secrets:
            assert secret.encode() not in path.read_bytes(), path
        if path != coordinator.log:
            assert path.stat().st_mode & 0o077 == 0 or path.name == "instance-id", path


def test_cancel_reaches_the_worker_and_its_answer_ends_the_job(coordinator, job):
    with coordinator.worker() as worker:
        worker.beat(native())
        job_id = coordinator.submit(job)
        reroute = worker.accept()
        worker.report(reroute, "running")
        coordinator.in_state(job_id, "running")
        assert coordinator.ask("POST", f"/api/v1/jobs/{job_id}/cancel", {"reason": "no"})[0] == 200
        order = worker.expect("peer.job.cancel", jobId=job_id)
        assert order["reason"] == "no"
        worker.report(reroute, "cancelled")
        worker.expect("job.progress.ack", state="cancelled")
    assert coordinator.ask("POST", f"/api/v1/jobs/{job_id}/cancel")[0] == 409


# C63
def test_job_that_waits_goes_to_the_worker_that_connects(coordinator, job):
    job_id = coordinator.submit(job)
    assert "handles labels: linux,runtime:native" in coordinator.job(job_id)["waiting"]
    with coordinator.worker() as worker:
        worker.beat(native())
        assert worker.accept()["jobId"] == job_id


# C58
def test_bootstrap_endpoint_does_not_exist(bystander):
    answer = bystander.ask("POST", "/api/v1/cluster/join", {"token": bystander.join_token()})
    assert answer[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nope", None, 404),
        ("DELETE", "/health", None, 405),
        ("POST", "/api/v1/jobs", b"{", 400),
        ("POST", "/api/v1/jobs", b"[]", 400),
        ("POST", "/api/v1/jobs", {"name": 1}, 422),
        ("GET", "/api/v1/jobs/none", None, 404),
        ("GET", "/api/v1/jobs?limit=x", None, 400),
        ("GET", "/api/v1/jobs?state=odd", None, 400),
        ("POST", "/api/v1/admin/join-tokens", {"role": "king"}, 400),
        ("POST", "/api/v1/jobs", b"x" * (1024 * 1024 + 1), 413),
        ("POST", "/api/v1/jobs", b"[" * 100_000, 400),
        ("POST", "/api/v1/jobs", b'{"a":' * 100_000, 400),
        ("POST", "/api/v1/jobs", {"name": "x", "steps": [{"run": "x"}], "timeout": 1e308}, 422),
        ("POST", "/api/v1/jobs", {"name": "x", "steps": [{"run": "x", "timeoutMs": 10**30}]}, 422),
        (
            "POST",
            "/api/v1/jobs",
            {"name": "x", "steps": [{"run": "x", "timeout": "9" * 400 + "s"}]},
            422,
        ),
    ],
)
def test_bad_requests_get_a_clear_answer(bystander, method, path, body, status):
    answered, answer = bystander.ask(method, path, body)
    assert answered == status
    assert answer["error"]


def test_api_needs_its_token(bystander):
    assert bystander.ask("GET", "/api/v1/jobs", token="wrong")[0] == 401
    assert bystander.ask("GET", "/health", token="")[1]["status"] == "ok"


def test_port_in_use_is_a_clear_error(bystander, tmp_path):
    words = ("run", "--data-dir", tmp_path / "other", "--host", "127.0.0.1")
    ended = subprocess.run(
        command("coordinator", *words, "--port", bystander.port),
        env=clean_env(), capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "cannot listen" in ended.stderr


def test_second_coordinator_on_one_data_directory_is_refused(tmp_path):
    words = ("run", "--data-dir", tmp_path / "d", "--host", "127.0.0.1", "--port", "0")
    first = subprocess.Popen(
        command("coordinator", *words, "--port-file", tmp_path / "port"),
        env=clean_env(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for((tmp_path / "port").exists)
        second = subprocess.run(
            command("coordinator", *words), env=clean_env(), capture_output=True, text=True,
            timeout=20,
        )  # fmt: skip
        assert second.returncode == 2
        assert "another coordinator runs on it" in second.stderr
    finally:
        first.terminate()
        assert first.wait(20) == 0


def test_wrong_settings_are_reported_together(tmp_path):
    env = clean_env(KICI_COORDINATOR_PROT="1", KICI_COORDINATOR_PORT="x", KICI_LOG_LEVEL="loud")
    ended = subprocess.run(
        command("coordinator", "run", "--data-dir", tmp_path / "d"),
        env=env, capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert ended.returncode == 2
    for name in ("KICI_COORDINATOR_PROT", "KICI_COORDINATOR_PORT", "KICI_LOG_LEVEL"):
        assert name in ended.stderr


def test_database_of_a_newer_version_is_refused(tmp_path):
    (tmp_path / "d").mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "d" / "coordinator.db")) as db:
        db.execute("PRAGMA user_version = 99")
    ended = subprocess.run(
        command("coordinator", "run", "--data-dir", tmp_path / "d", "--port", "0"),
        env=clean_env(), capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "newer version" in ended.stderr


def test_log_lines_are_json_with_the_words_operators_look_for(coordinator, job):
    with coordinator.worker() as worker:
        worker.beat(native())
        coordinator.submit(job)
        offer = worker.expect("job.reroute")
        refusal = {"type": "job.reroute.ack", "messageId": offer["messageId"], "accepted": False}
        worker.say(refusal | {"reason": "Worker is draining"})
        wait_for(lambda: "NAK from worker" in coordinator.log.read_text())
    lines = [json.loads(line) for line in coordinator.log.read_text().splitlines()]
    nak = next(line for line in lines if "Peer NAKed job" in line["message"])
    assert nak["peerId"] == "worker-7"
    assert nak["nakCount"] == 1
    assert nak["backoffMs"] == 2000
    assert nak["reason"] == "Worker is draining"
