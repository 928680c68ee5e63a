"""logs, reload, explain, debug bundle and completion."""

import http.server
import json
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kici.cli.logs import safe
from kici.cli.verbs import dispatch
from kici.cli.worker import ABOUT, DEFAULT, PROGRAM, VERBS
from kici.contracts.link.lifecycle import ReloadRequest, ReloadResult
from kici.contracts.link.views import DeclineView, JobLogTail, LogWatch
from tests.support.command import run_worker, start_worker
from tests.support.web_child import (
    WebChild,
    capacity,
    finished,
    job,
    peer_state,
    scaler_slots,
    secret,
)


def tail(*lines: str) -> JobLogTail:
    return JobLogTail(
        key=job(1, "j-1").key, step_index=0, stream="stdout", timestamp=1.0, lines=lines
    )


def test_a_log_is_followed_to_the_end_of_its_job(web: WebChild, url: str) -> None:
    web.pool.tell(job(1, "j-1"))
    web.eventually("/api/v1/jobs", lambda b: b["jobs"])
    done = []
    thread = threading.Thread(
        target=lambda: done.append(run_worker("logs", "j-", "-f", "--url", url))
    )
    thread.start()
    web.pool.hear(LogWatch)
    web.pool.tell(tail("one", "\x1b[31mtwo\x1b]0;title\x07"))
    web.pool.tell(finished(2, "j-1"))
    thread.join(15)
    assert (done[0].code, done[0].out) == (0, "one\ntwo\n")


def test_a_log_is_followed_over_a_restart_of_the_web_process(web: WebChild, url: str) -> None:
    web.pool.tell(job(1, "j-1"))
    web.eventually("/api/v1/jobs", lambda b: b["jobs"])
    with start_worker("logs", "j-1", "-f", "--url", url) as following:
        web.pool.hear(LogWatch)
        web.pool.tell(tail("one"))
        assert following.stdout.readline() == "one\n"
        web.restart()
        web.pool.tell(job(1, "j-1"))
        web.pool.hear(LogWatch)
        web.pool.tell(tail("two"))
        web.pool.tell(finished(2, "j-1"))
        out, err = following.communicate(timeout=15)
    assert (following.returncode, out) == (0, "two\n")
    assert len(err.splitlines()) == 1
    assert "trying again" in err


class Speaking(http.server.BaseHTTPRequestHandler):
    """A worker whose job runs and whose streams and answers break off."""

    jobs = b'{"jobs": [{"jobId": "j-1"}], "history": []}'
    more = 0

    def do_GET(self) -> None:
        body = b"event: log\r\n" if self.path.endswith("/log") else self.jobs
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) + self.more))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        return


@contextmanager
def speaking(handler: type[Speaking]) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(5)


def test_a_log_that_breaks_off_for_good_is_no_success(monkeypatch, capsys) -> None:
    monkeypatch.setattr("kici.cli.logs.RETRY_FOR_S", 0.2)
    monkeypatch.setattr("kici.cli.logs.RETRY_EVERY_S", 0.01)
    with speaking(Speaking) as url:
        words = ["logs", "j-1", "-f", "--url", url]
        assert dispatch(PROGRAM, ABOUT, VERBS, DEFAULT, words) == 3
    said = capsys.readouterr().err.splitlines()
    assert "the worker ended the stream; trying again" in said[0]
    assert "the job may still run" in said[1]


def test_an_answer_that_breaks_off_is_one_line() -> None:
    with speaking(type("Cut", (Speaking,), {"more": 9})) as url:
        ran = run_worker("jobs", "--url", url)
    assert (ran.code, len(ran.err.splitlines())) == (3, 1)


def test_without_follow_the_command_ends_when_nothing_comes(web: WebChild, url: str) -> None:
    web.pool.tell(job(1, "j-1"))
    web.eventually("/api/v1/jobs", lambda b: b["jobs"])
    assert run_worker("logs", "j-1", "--url", url).code == 0


def test_the_log_of_an_ended_job_is_elsewhere(web: WebChild, url: str) -> None:
    web.pool.tell(finished(1, "j-1"))
    web.eventually("/status", lambda b: b["recentJobs"])
    ran = run_worker("logs", "j-1", "--url", url)
    assert ran.code == 1
    assert "its log is at the coordinator: kici logs j-1" in ran.err
    assert "no job x runs here" in run_worker("logs", "x", "--url", url).err


def test_an_id_that_fits_two_jobs_is_refused(web: WebChild, url: str) -> None:
    web.pool.tell(job(1, "j-1"))
    web.pool.tell(job(2, "j-2"))
    web.eventually("/api/v1/jobs", lambda b: len(b["jobs"]) == 2)
    assert "j-1, j-2" in run_worker("logs", "j", "--url", url).err


def test_colours_of_a_log_stay_on_a_terminal_and_nothing_else_does() -> None:
    line = "\x1b[31mred\x1b[2J\x1b]0;x\x07\x1b[0m plain\x08"
    assert safe(line, colour=True) == "\x1b[31mred\x1b[0m plain\x1b[0m"
    assert safe(line, colour=False) == "red plain"


@pytest.mark.parametrize(
    ("good", "code", "text"), [(True, 0, "Reloaded."), (False, 1, "nothing changed:\n  bad port")]
)
def test_reload_waits_for_what_came_of_it(
    web: WebChild, url: str, good: bool, code: int, text: str
) -> None:
    done = []
    thread = threading.Thread(target=lambda: done.append(run_worker("reload", "--url", url)))
    thread.start()
    web.supervisor.hear(ReloadRequest)
    problems = () if good else ("bad port",)
    web.supervisor.tell(ReloadResult(rev=1, ok=good, at=5.0, problems=problems))
    thread.join(15)
    assert (done[0].code, text in done[0].out) == (code, True)


def test_explain_says_what_is_missing_and_what_is_full(web: WebChild, url: str) -> None:
    gated = scaler_slots("gpu-box", label_sets=(("linux", "gpu"),), gates=(("gpu",),))
    web.peer.tell(peer_state(1, "connected"))
    web.pool.tell(capacity(1, scalers=(scaler_slots(active=4), gated)))
    web.pool.tell(
        DeclineView(rev=1, at=1.0, job_name="mac", labels=("macos",), reason="no such labels")
    )
    web.eventually("/api/v1/refusals", lambda b: b["refusals"])
    ran = run_worker("explain", "--labels", "Linux,arm64", "--url", url)
    assert ran.code == 0
    assert "pi matches; 0 of 4 slots free; full: a job would wait in the queue" in ran.out
    assert "[linux, gpu] lacks arm64" in ran.out
    ran = run_worker("explain", "--labels", "linux,macos", "--url", url)
    assert ran.code == 1
    assert "no scaler has these labels" in ran.out
    assert "mac (macos): no such labels" in ran.out
    ran = run_worker("explain", "--labels", "linux", "--url", url)
    assert "[linux, gpu] wants gpu to be asked for" in ran.out


def test_explain_names_a_missing_coordinator(web: WebChild, url: str) -> None:
    web.pool.tell(capacity(1))
    web.eventually("/status", lambda b: b["scalers"])
    ran = run_worker("explain", "--labels", "linux", "--url", url, "--json")
    assert json.loads(ran.out)["blockers"] == ["no coordinator is connected: nobody offers jobs"]


def read_bundle(path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        return {
            member.name.removeprefix("kici-worker/"): archive.extractfile(member).read().decode()
            for member in archive.getmembers()
        }


def test_a_bundle_has_the_state_and_no_secret(tmp_path) -> None:
    child = WebChild(tmp_path, admin_token=secret("s3cret-admin"))
    try:
        child.pool.tell(job(1, "j-1"))
        child.pool.tell(finished(2, "j-1", "failed", error="exit code 2"))
        child.eventually("/status", lambda b: b["recentJobs"])
        url, path = f"http://127.0.0.1:{child.port}", str(tmp_path / "b.tar.gz")
        environ = {
            "KICI_CLUSTER_ROLE": "worker",
            "KICI_CLUSTER_COORDINATOR_URL": "ws://127.0.0.1:1",
            "KICI_CLUSTER_JOIN_TOKEN": "kici_join_v1.xxx.s3cret-join",
            "KICI_ADMIN_TOKEN": "s3cret-admin",
            "KICI_DATA_DIR": str(tmp_path),
        }
        ran = run_worker("debug", "bundle", "--url", url, "-o", path, **environ)
        assert ran.code == 0, ran.err
    finally:
        child.close()
    assert (tmp_path / "b.tar.gz").stat().st_mode & 0o777 == 0o600
    parts = read_bundle(path)
    assert parts["errors.txt"] == ""
    assert json.loads(parts["status.json"])["instanceId"] == "pi-7"
    whats = [event["what"] for event in json.loads(parts["events.json"])["events"]]
    assert "j-1 finished failed exit code 2" in whats
    assert "kici_orch_executions_total" in parts["metrics.txt"]
    assert json.loads(parts["config.json"])["ok"] is True
    assert len(json.loads(parts["doctor.json"])) > 20
    assert not [name for name, text in parts.items() if "s3cret" in text]


def test_a_bundle_of_a_worker_that_is_down_says_what_is_missing(tmp_path) -> None:
    path = str(tmp_path / "b.tar.gz")
    ran = run_worker("debug", "bundle", "--url", "http://127.0.0.1:1", "-o", path)
    assert ran.code == 0
    parts = read_bundle(path)
    assert "status.json: Failed to connect" in parts["errors.txt"]
    assert "doctor.json" in parts
    assert run_worker("debug", "bundle", "-o", path).code == 1  # never overwrites


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_verb_and_option(shell: str) -> None:
    script = run_worker("completion", shell).out
    for word in (*VERBS, "deadline", "watch", "create"):
        assert word in script
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=script, text=True, capture_output=True)
        assert checked.returncode == 0, checked.stderr


def test_bash_completes_a_verb_and_its_options() -> None:
    script = run_worker("completion", "bash").out
    code = script + (
        'COMP_WORDS=(kici-worker dr); COMP_CWORD=1; _kici_worker; echo "${COMPREPLY[@]}";'
        'COMP_WORDS=(kici-worker drain --de); COMP_CWORD=2; _kici_worker; echo "${COMPREPLY[@]}"'
    )
    shown = subprocess.run(["bash", "-c", code], capture_output=True, text=True).stdout
    assert shown == "drain\n--deadline\n"
