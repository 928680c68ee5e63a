"""A real coordinator process on a free loopback port."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.dialer import ScriptedWorker
from tests.support.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 15.0


def command(module, *words):
    return [sys.executable, "-c", f"from kici.cli.{module} import main; main()", *map(str, words)]


def clean_env(**more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("KICI_")}
    return kept | {"PYTHONPATH": str(ROOT), **more}


class RunningCoordinator:
    """``kici-coordinator run`` on ``data_dir``; ``start`` and ``kill`` as often as wanted."""

    def __init__(self, base):
        self.base = base
        self.data_dir = base / "data"
        self.log = base / "coordinator.log"
        self.process = None
        self.port = None

    def start(self, **env):
        port_file = self.base / "port"
        port_file.unlink(missing_ok=True)
        words = ["run", "--data-dir", self.data_dir, "--host", "127.0.0.1"]
        words += ["--port", self.port or 0, "--port-file", port_file]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command("coordinator", *words), env=clean_env(**env), stdout=log, stderr=log
            )
        wait_for(
            lambda: port_file.exists() or self.process.poll() is not None, "coordinator's port"
        )
        assert self.process.poll() is None, self.log.read_text()
        self.port = int(port_file.read_text())
        return self

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(LIMIT_S)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def peer_url(self):
        return f"ws://127.0.0.1:{self.port}/ws/peer"

    @property
    def token(self):
        return (self.data_dir / "admin-token").read_text().strip()

    def ask(self, method, path, body=None, *, token=None, headers=None):
        """Status and decoded answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        presented = self.token if token is None else token
        sent = {"Authorization": f"Bearer {presented}", **(headers or {})}
        try:
            payload = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, payload, sent)
            response = connection.getresponse()
            text = response.read()
            return response.status, json.loads(text) if text else None
        finally:
            connection.close()

    def join_token(self, **more):
        status, made = self.ask("POST", "/api/v1/admin/join-tokens", {"role": "worker", **more})
        assert status == 201
        return made["token"]

    def worker(self, name="worker-7", **dialer):
        """A connected scripted worker, joined with a fresh token unless told otherwise."""
        if "credential" not in dialer and "token" not in dialer:
            dialer["token"] = self.join_token()
        worker = ScriptedWorker(self.peer_url, instance_id=name, **dialer)
        assert worker.join()["accepted"], worker.joined
        return worker

    def submit(self, document):
        status, made = self.ask("POST", "/api/v1/jobs", document)
        assert status == 201, made
        return made["jobId"]

    def job(self, job_id):
        status, job = self.ask("GET", f"/api/v1/jobs/{job_id}")
        assert status == 200, job
        return job

    def in_state(self, job_id, state):
        return wait_for(
            lambda: job if (job := self.job(job_id))["state"] == state else None,
            f"job in state {state}",
        )


@contextlib.contextmanager
def running_coordinator(base):
    running = RunningCoordinator(base)
    running.start()
    try:
        yield running
        if running.process.poll() is None:
            assert running.end() == 0, running.log.read_text()
    finally:
        running.process.kill()  # nothing to kill when it has ended
        running.process.wait()


@pytest.fixture
def coordinator(tmp_path):
    with running_coordinator(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def bystander(tmp_path_factory):
    """A coordinator for tests that are refused and so change nothing."""
    with running_coordinator(tmp_path_factory.mktemp("bystander")) as running:
        yield running


JOB = {
    "name": "build",
    "runs-on": ["linux"],
    "steps": [{"name": "hello", "run": "echo hello"}],
}


@pytest.fixture
def job():
    return dict(JOB)
