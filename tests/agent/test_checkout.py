"""Credentials in the URL of a repository: used where they belong, shown nowhere."""

import base64
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from kici.agent.environment import secrets_of
from kici.contracts.wire.agent.jobs import JobDispatch
from tests.agent.test_jobs import run

TOKEN = "ghp_0123456789abcdef"
STEPS = [{"name": "s", "run": "true"}]


def secrets(repo_url):
    fields = {"ref": "", "sha": "", "lock_file_url": "", "job_config": {}, "timestamp": 1}
    ids = {"message_id": "m", "run_id": "r", "job_id": "j"}
    return secrets_of(JobDispatch(repo_url=repo_url, **fields, **ids), None)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://host/a.git", set()),
        ("https://host/a@b.git", set()),
        ("https://user:word@host/a.git", {"word"}),
        ("https://user:w%40rd@host/a.git", {"w%40rd", "w@rd"}),
        ("https://user:w@rd@host/a.git", {"w@rd"}),
        ("ssh://user:word@host/a.git", {"word"}),
        (f"https://{TOKEN}@host/a.git", {TOKEN}),
        (f"https://{TOKEN}:@host", {TOKEN}),
        ("https://to%2Fken@host?x", {"to%2Fken", "to/ken"}),
        (f"https://{TOKEN}:x-oauth-basic@host/a.git", {TOKEN, "x-oauth-basic"}),
        ("https://git@host/a.git", set()),
        ("ssh://deploy@host/a.git", set()),
    ],
)
# A93
def test_a_credential_in_the_url_is_a_secret_and_a_name_is_none(url, found):
    assert set(secrets(url)) == found


class Forge:
    """Owns: an HTTP server that asks every visitor for a credential and lets nobody in."""

    def __init__(self):
        self.asked = asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.headers["Authorization"])
                self.send_response(401 if asked[-1] is None else 404)
                self.send_header("WWW-Authenticate", "Basic")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.host = f"127.0.0.1:{self._server.server_port}"

    def close(self):
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()


@pytest.fixture
def forge():
    server = Forge()
    yield server
    server.close()


# A93
def test_a_token_as_the_user_of_the_url_is_given_when_asked_for_and_shown_nowhere(
    worker, start_agent, forge, tmp_path
):
    spy = tmp_path / "bin"
    spy.mkdir()
    (spy / "git").write_text(
        f'#!/bin/bash\necho "$@" >> {tmp_path}/argv\nPATH=${{PATH#*:}} exec git "$@"\n'
    )
    (spy / "git").chmod(0o755)
    url, path = f"http://{TOKEN}@{forge.host}/a.git", f"{spy}:{os.environ['PATH']}"
    side, end = run(worker, start_agent, STEPS, repoUrl=url, env={"PATH": path})
    assert end["state"] == "failed"
    assert f"from http://{forge.host}/a.git" in end["data"]["error"]
    basic = base64.b64encode(f"{TOKEN}:".encode()).decode()
    assert [*dict.fromkeys(forge.asked)] == [None, f"Basic {basic}"]
    assert TOKEN not in str(side.seen)
    assert TOKEN not in (tmp_path / "argv").read_text()
    assert "fetch" in (tmp_path / "argv").read_text()
