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
        ("https://to%2Fken0123456789@host?x", {"to%2Fken0123456789", "to/ken0123456789"}),
        (f"https://{TOKEN}:x-oauth-basic@host/a.git", {TOKEN, "x-oauth-basic"}),
        ("https://git@host/a.git", set()),
        ("ssh://deploy@host/a.git", set()),
    ],
)
# A93
def test_a_credential_in_the_url_is_a_secret_and_a_name_is_none(url, found):
    assert set(secrets(url)) == found


class Forge:
    """Owns: an HTTP server for git that lists one commit and gives it to nobody. ``asks``:
    only to who shows a credential. ``elsewhere``: where it sends everybody."""

    def __init__(self, *, asks=False, elsewhere=""):
        self.shown = shown = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                shown.append(self.headers["Authorization"])
                if elsewhere:
                    self.answer(302, Location=elsewhere + self.path)
                elif asks and not shown[-1]:
                    self.answer(401, **{"WWW-Authenticate": "Basic"})
                else:
                    kind = "application/x-git-upload-pack-advertisement"
                    self.answer(200, ADVERTISEMENT, **{"Content-Type": kind})

            def do_POST(self):
                shown.append(self.headers["Authorization"])
                self.answer(404)

            def answer(self, status, body=b"", **headers):
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

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


def line(text):
    return b"%04x" % (len(text) + 4) + text


SHA = b"1" * 40
ADVERTISEMENT = (
    line(b"# service=git-upload-pack\n") + b"0000"
    + line(SHA + b" HEAD\0 shallow allow-any-sha1-in-want\n") + b"0000"
)  # fmt: skip


@pytest.fixture
def forge():
    opened = []

    def start(**how):
        opened.append(Forge(**how))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


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
    server = forge(asks=True)
    url, path = f"http://{TOKEN}@{server.host}/a.git", f"{spy}:{os.environ['PATH']}"
    side, end = run(worker, start_agent, STEPS, repoUrl=url, env={"PATH": path})
    assert end["state"] == "failed"
    assert f"from http://{server.host}/a.git" in end["data"]["error"]
    assert [*dict.fromkeys(server.shown)] == [None, basic(TOKEN, "")]
    assert TOKEN not in str(side.seen)
    assert TOKEN not in (tmp_path / "argv").read_text()
    assert "fetch" in (tmp_path / "argv").read_text()


@pytest.mark.parametrize(
    ("url", "fields", "shown"),
    [
        ("http://us%20er:w%22o%2Frd@{}/a", {}, basic("us er", 'w"o/rd')),
        ("http://:word@{}/a", {}, basic("x-access-token", "word")),
        ("http://{}/a", {"token": TOKEN}, basic("x-access-token", TOKEN)),
        ("http://u:p@{}/a", {"token": TOKEN}, basic("x-access-token", TOKEN)),
        (
            "http://{}/a",
            {"token": "no", "sourceAuth": {"kind": "basic", "user": "me", "secret": "$(id) 'x"}},
            basic("me", "$(id) 'x"),
        ),
        ("http://{}/a", {}, None),
    ],
)
def test_a_server_that_asks_gets_the_jobs_credential(
    worker, start_agent, forge, url, fields, shown
):
    server = forge(asks=True)
    run(worker, start_agent, STEPS, repoUrl=url.format(server.host), **fields)
    assert [*dict.fromkeys(server.shown)] == list(dict.fromkeys([None, shown]))


# A93
@pytest.mark.parametrize("asks", [False, True])
def test_a_server_that_one_is_sent_to_gets_no_credential(worker, start_agent, forge, asks):
    other = forge(asks=asks)
    first = forge(elsewhere=f"http://{other.host}")
    url = f"http://{first.host}/a.git"
    sha = SHA.decode()
    _, end = run(worker, start_agent, STEPS, repoUrl=url, token=TOKEN, sha=sha, ref="main")
    assert end["state"] == "failed"
    assert other.shown, "git did not follow the redirect"
    assert not any(other.shown)
