"""``kici`` and ``kici-admin`` as processes against a real coordinator."""

import json
import socketserver
import subprocess
import threading
from http.server import BaseHTTPRequestHandler

import pytest

from tests.coordinator.conftest import clean_env, command
from tests.coordinator.world import native

DOCUMENT = """\
name: build
runs-on: linux
secrets:
  TOKEN: {env: MY_TOKEN}
  KEY: {file: key.txt}
steps:
  - name: hello
    run: echo hello
    secretEnv: {T: TOKEN, K: KEY}
"""


def call(module, *words, **env):
    return subprocess.run(
        command(module, *words), env=clean_env(**env), capture_output=True, text=True, timeout=30
    )


@pytest.fixture
def document(tmp_path):
    (tmp_path / "key.txt").write_text("from-file\n")
    path = tmp_path / "job.yaml"
    path.write_text(DOCUMENT)
    return path


def run_followed(coordinator, document, state, *flags):
    """``kici run --follow`` while a scripted worker runs the job; the ended process."""
    words = ("run", document, "--follow", "--data-dir", coordinator.data_dir, *flags)
    with coordinator.worker() as worker:
        worker.beat(native())
        process = subprocess.Popen(
            command("user", *words), env=clean_env(MY_TOKEN="from-env"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            reroute = worker.accept()
            assert reroute["jobConfig"]["secrets"] == {"TOKEN": "from-env", "KEY": "from-file"}
            worker.report(reroute, "running")
            worker.report(reroute, "running", kind="step", stepName="hello")
            ids = {"runId": reroute["runId"], "jobId": reroute["jobId"]}
            lines = [{"text": "hello", "timestamp": 1, "stream": "stdout"}]
            worker.say({"type": "peer.log.chunk", **ids, "stepIndex": 0, "lines": lines})
            worker.report(reroute, state, kind="step", stepName="hello")
            worker.report(
                reroute, state, data={"error": "exit code 3"} if state != "success" else {}
            )
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
            process.wait()
    return process.returncode, out, err


def test_followed_job_prints_its_log_and_summary_and_exits_0(coordinator, document):
    code, out, err = run_followed(coordinator, document, "success")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[:2] == ["── hello", "hello"]
    assert lines[-1].startswith("success build")
    assert "worker-7" in lines[-1]


def test_failed_job_exits_1_with_its_reason(coordinator, document):
    code, out, _ = run_followed(coordinator, document, "failed")
    assert code == 1
    assert out.splitlines()[-1].endswith(": exit code 3")


def test_json_output_is_one_object_a_line(coordinator, document):
    code, out, _ = run_followed(coordinator, document, "success", "--json")
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[0] == {"step": 0, "text": "hello", "timestamp": 1, "stream": "stdout"}
    assert lines[-1]["state"] == "success"


def test_jobs_logs_and_cancel_by_a_short_id(coordinator, document):
    here = ("--data-dir", coordinator.data_dir)
    made = json.loads(call("user", "run", document, "--json", *here, MY_TOKEN="x").stdout)
    short = made["jobId"][:8]
    listed = call("user", "jobs", *here)
    assert listed.returncode == 0, listed.stderr
    assert short in listed.stdout
    assert "queued" in listed.stdout
    assert call("user", "logs", short, *here).stdout == ""
    assert call("user", "cancel", short, *here).stdout == f"Job {made['jobId']} cancelled\n"
    again = call("user", "cancel", short, *here)
    assert (again.returncode, again.stderr) == (1, "kici: the job has ended: cancelled\n")
    assert call("user", "logs", "ffffffff", *here).returncode == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name: [", "line"),
        ("- a", "expected a mapping"),
        ("name: b\nsecrets: {A: plain-value}\n", "a value may not stand here"),
        ("name: b\nsecrets: {A: {env: NOT_SET_ANYWHERE}}\n", "NOT_SET_ANYWHERE is not set"),
        ("name: b\nsecrets: {A: {file: none}}\n", "No such file"),
        ("name: b\nodd: 1\n", "odd: unknown key"),
    ],
)
def test_bad_document_exits_2_and_names_the_place(bystander, tmp_path, text, complaint):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    ended = call("user", "run", path, "--data-dir", bystander.data_dir)
    assert ended.returncode == 2
    assert complaint in ended.stderr
    assert "plain-value" not in ended.stderr


def test_unreachable_coordinator_exits_3(tmp_path):
    ended = call("user", "jobs", "--url", "http://127.0.0.1:1", KICI_TOKEN="x")
    assert ended.returncode == 3
    assert "cannot reach http://127.0.0.1:1" in ended.stderr


# worker surface 7.1
def test_create_token_prints_the_four_parts_and_json_the_five_keys(coordinator):
    here = ("--data-dir", coordinator.data_dir)
    said = call("admin", "peer", "create-token", "--role", "worker", "--ttl", "30m", *here)
    first, blank, token, blank_too, last = said.stdout.splitlines()
    assert first.startswith("Join token created (role: worker, expires: 2")
    assert (blank, blank_too) == ("", "")
    assert token.startswith("kici_join_v1.")
    assert "once" in last
    made = json.loads(call("admin", "peer", "create-token", "--json", *here).stdout)
    assert set(made) == {"token", "role", "orgId", "routingKey", "expiresAt"}
    with coordinator.worker(token=token):
        listed = call("admin", "peer", "list", *here).stdout
        assert "Instance ID" in listed
        assert "worker-7" in listed


def test_admin_works_over_http_with_a_token(coordinator):
    there = ("--url", coordinator.url)
    env = {"KICI_TOKEN": coordinator.token}
    made = json.loads(call("admin", "peer", "create-token", "--json", *there, **env).stdout)
    with coordinator.worker(token=made["token"]) as worker:
        assert "worker-7" in call("admin", "peer", "list", *there, **env).stdout
        ended = call("admin", "peer", "revoke", "--instance-id", "worker-7", *there, **env)
        assert "worker-7" in ended.stdout
        assert worker.closed() == (4001, "Credential revoked")
    assert call("admin", "peer", "list", *there, **env).stdout == "No active peers found.\n"


@pytest.mark.parametrize(
    "words",
    [
        ("create-token", "--role", "king"),
        ("create-token", "--expiry-hours", "soon"),
        ("create-token", "--expiry-hours", "-1"),
        ("create-token", "--ttl", "0s"),
        ("revoke",),
        ("revoke", "nobody"),
        ("revoke-all",),
    ],
)
def test_admin_mistakes_exit_1_with_one_line(bystander, words):
    ended = call("admin", "peer", *words, "--data-dir", bystander.data_dir)
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1


def test_admin_without_a_database_says_what_to_do(tmp_path):
    ended = call("admin", "peer", "list", "--data-dir", tmp_path / "none")
    assert ended.returncode == 1
    assert "start kici-coordinator once" in ended.stderr
    assert not (tmp_path / "none").exists()


class DrainHandler(BaseHTTPRequestHandler):
    status = 200

    def do_POST(self):  # noqa: N802 - http.server's name
        body = b'{"draining":true,"activeJobs":2}'
        status = self.status if self.path == "/drain" else 404
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Quiet."""


# worker surface 7.2, word for word
@pytest.mark.parametrize(
    ("status", "code", "out", "err"),
    [
        (200, 0, "Worker draining. Active jobs: 2\n", ""),
        (503, 1, "", "kici: Drain request failed: 503 Service Unavailable\n"),
    ],
)
def test_drain_worker_answers_as_specified(status, code, out, err):
    handler = type("Handler", (DrainHandler,), {"status": status})
    with socketserver.TCPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}/"
            ended = call("user", "admin", "drain-worker", "--url", url)
        finally:
            server.shutdown()
            thread.join()
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, out, err)


def test_drain_of_an_unreachable_worker_exits_1():
    ended = call("user", "admin", "drain-worker", "--url", "http://127.0.0.1:1")
    assert ended.returncode == 1
    assert ended.stderr.startswith("kici: Failed to connect to worker at http://127.0.0.1:1: ")
    assert call("user", "admin", "drain-worker").returncode == 1
