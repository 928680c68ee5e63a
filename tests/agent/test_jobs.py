"""Whole jobs through a real agent process and a real socket."""

import base64
import os
import signal
import subprocess
import time

import pytest

from tests.agent.conftest import ROOT
from tests.support.waiting import wait_for


def run(worker, start_agent, steps, **fields):
    """One job to its end; returns (worker's side, terminal status)."""
    env = fields.pop("env", {})
    start_agent(**env)
    side = worker.accept()
    side.register()
    side.dispatch(steps, **fields)
    end = side.until("job.status")
    while end["state"] == "running":
        end = side.until("job.status")
    side.until("agent.status", activeJobs=0)
    return side, end


def statuses(side):
    return [
        (f["stepIndex"], f["state"])
        for f in side.seen
        if f["type"] == "step.status" and f["state"] != "running"
    ]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# A86 A89 A90 A94
def test_a_job_clones_runs_its_steps_and_reports_in_order(worker, start_agent, repository):
    url, first, _ = repository
    start_agent(KICI_AGENT_TOKEN="kat_x", KICI_LABELS="linux")
    side = worker.accept()
    register = side.register()
    assert register["labels"][0] == "linux"
    side.dispatch(
        [
            {"name": "read", "run": "cat file.txt; echo err >&2; env"},
            {"name": "out", "run": 'echo "a=1" >> $KICI_OUTPUT; echo "X=from env" >> $KICI_ENV'},
            {"name": "use", "run": 'echo "$X"; printf "no newline"'},
        ],
        repoUrl=url,
        sha=first,
        ref="main",
    )
    end = side.until("job.status", state="success")
    side.until("agent.status", activeJobs=0)
    types = [(f["type"], f.get("state")) for f in side.seen if f["type"].startswith("job.")]
    assert types == [("job.ack", None), ("job.status", "running"), ("job.status", "success")]
    lines = side.log_lines(0)
    assert {"one", "err"} <= set(lines)
    assert not any("kat_x" in line or line.startswith("KICI_LABELS") for line in lines)
    assert side.log_lines(2) == ["from env", "no newline"]
    assert end["data"]["outputs"] == {"out": {"a": "1"}}
    assert [r["status"] for r in end["data"]["stepResults"]] == ["success"] * 3
    streams = {f["stream"] for f in side.seen if f["type"] == "log.chunk"}
    assert streams == {"stdout", "stderr"}


# A87
def test_a_managed_agent_adds_only_labels_that_its_token_allows(worker, start_agent):
    start_agent(KICI_SCALER_MANAGED="1", KICI_LABELS="linux,kici:scaler:bm", KICI_ROLES="all")
    labels = worker.accept().register()["labels"]
    assert labels[:2] == ["linux", "kici:scaler:bm"]
    assert all(x.startswith(("kici:os:", "kici:arch:", "kici:host:")) for x in labels[2:])


def test_a_stand_alone_agent_announces_that_it_runs_native_jobs(worker, start_agent):
    start_agent()
    assert "runtime:native" in worker.accept().register()["labels"]


def test_a_failing_step_skips_the_rest_except_always_and_failure(worker, start_agent):
    steps = [
        {"name": "tolerated", "run": "exit 3", "continueOnError": True},
        {"name": "bad", "run": "false; echo not reached"},
        {"name": "skipped", "run": "echo no"},
        {"name": "clean", "run": "echo always", "if": "always"},
        {"name": "sorry", "run": "echo failure", "if": "failure"},
    ]
    side, end = run(worker, start_agent, steps)
    assert end["state"] == "failed"
    assert end["data"]["error"] == "Step 'bad' failed: exit code: 1"
    states = ["failed", "failed", "skipped", "success", "success"]
    assert statuses(side) == list(enumerate(states))
    first = next(f for f in side.seen if f["type"] == "step.status" and f["state"] == "failed")
    assert first["data"]["error"] == {"message": "exit code: 3", "exitCode": 3}
    assert first["data"]["durationMs"] >= 0


# A93
def test_secrets_are_masked_in_logs_errors_outputs_and_split_writes(worker, start_agent):
    secret, pem = "hunter2-value", "BEGIN\nline-two-secret\nEND"
    encoded = base64.b64encode(f"user:{secret}".encode()).decode()
    steps = [
        {
            "name": f"uses {secret}",
            "secretEnv": {"S": "PASS", "P": "PEM"},
            "run": (
                'printf "%s" "${S:0:5}"; sleep 0.3; echo "${S:5}"; echo "$P"; '
                'echo -n "user:$S" | base64; echo "o=$S" >> $KICI_OUTPUT; exit 1'
            ),
        }
    ]
    side, end = run(worker, start_agent, steps, secrets={"PASS": secret, "PEM": pem})
    text = str(side.seen) + str(end)
    assert secret not in text
    assert "line-two-secret" not in text
    assert encoded not in text
    assert side.log_lines(0)[0] == "***"
    assert end["data"]["outputs"] == {"uses ***": {"o": "***"}}
    status = next(f for f in side.seen if f["type"] == "step.status" and f["state"] == "failed")
    assert status["secretsAccessed"] == ["PASS", "PEM"]


def test_a_secret_that_was_not_given_fails_the_step_with_its_name(worker, start_agent):
    steps = [{"name": "s", "run": "echo ran", "secretEnv": {"X": "NOPE"}}]
    side, end = run(worker, start_agent, steps)
    assert end["data"]["error"] == "Step 's' failed: secret 'NOPE' was not given to this job"
    assert "ran" not in side.log_lines()


@pytest.mark.parametrize("force", [False, True])
# A95
def test_cancel_ends_every_process_also_those_that_left(worker, start_agent, tmp_path, force):
    start_agent()
    side = worker.accept()
    side.register()
    script = (
        f"(setsid bash -c 'trap \"\" TERM; echo $$ > {tmp_path}/esc; sleep 2001' &); "
        f"while [ ! -s {tmp_path}/esc ]; do sleep 0.02; done; echo go; sleep 2002"
    )
    side.dispatch([{"name": "long", "run": script}, {"name": "next", "run": "true"}])
    side.until("log.chunk", stepIndex=0)
    begun = time.monotonic()
    side.send(
        "job.cancel", messageId="c", runId="run-1", jobId="job-1", reason="by me", force=force
    )
    end = side.until("job.status", state="cancelled")
    assert time.monotonic() - begun < 4
    assert end["data"]["error"] == "by me"
    assert statuses(side) == [(0, "cancelled"), (1, "skipped")]
    assert not alive(int((tmp_path / "esc").read_text()))
    side.until("agent.status", activeJobs=0)


def test_a_step_that_takes_too_long_is_ended_and_fails(worker, start_agent):
    side, end = run(worker, start_agent, [{"name": "slow", "run": "sleep 60", "timeoutMs": 300}])
    assert end["data"]["error"] == "Step 'slow' failed: timed out after 300 ms"


def test_a_job_that_takes_too_long_is_ended_and_fails(worker, start_agent):
    steps = [{"name": "slow", "run": "sleep 60"}, {"name": "n", "run": "true", "if": "always"}]
    side, end = run(worker, start_agent, steps, jobConfig={"timeout": 400})
    assert end["state"] == "failed"
    assert end["data"]["error"] == "job_timeout: job exceeded its timeout of 400ms"
    assert statuses(side) == [(0, "failed"), (1, "skipped")]


def test_a_background_process_serves_later_steps_and_dies_with_the_job(
    worker, start_agent, tmp_path
):
    steps = [
        {"name": "start", "run": f"sleep 2003 & echo $! > {tmp_path}/pid"},
        {"name": "use", "run": f"kill -0 $(cat {tmp_path}/pid) && echo lives"},
    ]
    side, end = run(worker, start_agent, steps)
    assert end["state"] == "success"
    assert side.log_lines(1) == ["lives"]
    assert not alive(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("start", ["sleep 2004 & echo $!", "setsid sleep 2005 & echo $!"])
def test_where_orphans_are_not_adopted_background_processes_die_with_the_job_too(
    worker, start_agent, tmp_path, start
):
    """macOS' shape: a process that left its session has the worker's mark still."""
    env = {
        "PYTHONPATH": f"{ROOT}/tests/support/without_linux:{ROOT}",
        "WITHOUT_LINUX": str(tmp_path / "said"),
        "KICIWORKER_AGENT": f"test-{os.getpid()}-{time.monotonic_ns()}",
    }
    steps = [{"run": f"{start} > {tmp_path}/pid"}, {"run": f"kill -0 $(cat {tmp_path}/pid)"}]
    _, end = run(worker, start_agent, steps, env=env)
    pid = int((tmp_path / "pid").read_text())
    try:
        assert (end["state"], end["data"].get("error")) == ("success", None)
        assert (tmp_path / "said").read_text(), "the agent ran on Linux"
        assert not alive(pid)
    finally:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def test_a_typescript_job_fails_with_a_reason(worker, start_agent):
    side, end = run(worker, start_agent, None, jobConfig={"source": {"file": ".kici/x.ts"}})
    assert end["state"] == "failed"
    assert "TypeScript" in end["data"]["error"]


@pytest.mark.parametrize(
    ("native", "words"),
    [
        ({"steps": []}, "needs 1 to"),
        ({"steps": [{"name": "x"}]}, "run"),
        ({"steps": [{"run": "x", "shell": "fish"}]}, "shell must be one of"),
        ({"steps": [{"run": "x", "if": "maybe"}]}, "if must be one of"),
        ({"version": 2, "steps": [{"run": "x"}]}, "version 2"),
        ({"steps": [{"run": "x", "workdir": "../.."}]}, "outside the checkout"),
    ],
)
def test_an_invalid_native_job_fails_and_says_what_is_wrong(worker, start_agent, native, words):
    side, end = run(worker, start_agent, None, jobConfig={"native": native})
    assert end["state"] == "failed"
    assert words in end["data"]["error"]


# A101
def test_a_commit_that_does_not_exist_fails_before_any_step(worker, start_agent, repository):
    url, _, _ = repository
    steps = [{"name": "s", "run": "echo ran"}]
    side, end = run(worker, start_agent, steps, repoUrl=url, sha="0" * 40, ref="main")
    assert end["state"] == "failed"
    assert "0000" in end["data"]["error"]
    assert statuses(side) == []


# A101
def test_an_abbreviated_commit_of_a_branch_that_moved_on_is_found(worker, start_agent, repository):
    url, first, _ = repository
    steps = [{"name": "s", "run": "cat file.txt"}]
    side, end = run(worker, start_agent, steps, repoUrl=url, sha=first[:10], ref="main")
    assert end["state"] == "success", end
    assert side.log_lines(0) == ["one"]


# A101
def test_a_source_file_that_changed_fails_the_content_hash(worker, start_agent, repository):
    url, first, _ = repository
    config = {"source": {"file": "file.txt"}, "contentHash": "0" * 64}
    steps = [{"name": "s", "run": "true"}]
    _, end = run(worker, start_agent, steps, repoUrl=url, sha=first, jobConfig=config)
    assert "content hash" in end["data"]["error"]


def test_nothing_of_a_job_stays_on_the_disk(worker, start_agent, tmp_path, repository):
    url, first, _ = repository
    steps = [{"name": "s", "run": "mkdir d; touch d/f; chmod 500 d; pwd > $HOME/where"}]
    run(worker, start_agent, steps, repoUrl=url, sha=first)
    where = (tmp_path / "agent/where").read_text().strip()
    assert "kici-" in where
    assert not os.path.exists(os.path.dirname(where))


# A92
def test_much_output_arrives_whole_in_bounded_frames_and_order(worker, start_agent):
    n_lines = 100_000
    steps = [{"name": "much", "run": f"seq 1 {n_lines}; printf 'a\\xffb\\rc\\n'"}]
    side, end = run(worker, start_agent, steps)
    lines = side.log_lines(0)
    assert lines[:-1] == [str(number) for number in range(1, n_lines + 1)]
    assert lines[-1] == "a�b\rc"
    assert max(size for _, size in side.sizes) <= 2**20
    times = [at for at, _ in side.sizes]
    assert all(later - at >= 0.95 for at, later in zip(times, times[201:], strict=False))


def test_output_beyond_the_limit_is_cut_with_a_marker(worker, start_agent):
    steps = [{"name": "much", "run": "seq 1 10000"}, {"name": "more", "run": "echo fine"}]
    side, _ = run(worker, start_agent, steps, maxLogSizeBytes=1000)
    assert side.log_lines(0)[-1] == "[TRUNCATED: log output exceeded 1000 bytes]"
    assert len(side.log_lines(0)) < 400
    assert side.log_lines(1) == ["fine"]


def test_the_clone_token_is_on_no_command_line_and_in_no_file(worker, start_agent, tmp_path):
    """A git of our own shows what it was started with."""
    spy = tmp_path / "bin"
    spy.mkdir()
    (spy / "git").write_text(
        f'#!/bin/bash\necho "$@" >> {tmp_path}/argv\nenv | grep GIT >> {tmp_path}/env\nexit 1\n'
    )
    (spy / "git").chmod(0o755)
    path = f"{spy}:{os.environ['PATH']}"
    side, end = run(
        worker,
        start_agent,
        [{"name": "s", "run": "true"}],
        repoUrl="https://git.example/x.git",
        token="ghs_clone_token",
        env={"PATH": path},
    )
    assert end["state"] == "failed"
    assert "ghs_clone_token" not in (tmp_path / "argv").read_text()
    assert "=ghs_clone_token\n" in (tmp_path / "env").read_text()
    assert "ghs_clone_token" not in str(side.seen)


def test_a_source_archive_is_used_when_its_digest_fits(worker, start_agent, tmp_path):
    import hashlib

    (tmp_path / "hello.txt").write_text("from tar\n")
    subprocess.run(["tar", "czf", tmp_path / "s.tgz", "-C", tmp_path, "hello.txt"], check=True)
    data = (tmp_path / "s.tgz").read_bytes()
    fields = {"sourceTarUrl": f"file://{tmp_path}/s.tgz"}
    digest = hashlib.sha256(data).hexdigest()
    steps = [{"name": "s", "run": "cat hello.txt"}]
    side, end = run(worker, start_agent, steps, sourceTarDigest=digest, **fields)
    assert side.log_lines(0) == ["from tar"], end


# A101
def test_an_archive_with_another_digest_or_a_way_out_is_refused(worker, start_agent, tmp_path):
    import hashlib
    import io
    import tarfile

    path = tmp_path / "evil.tgz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("../../escaped")
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))
    start_agent()
    side = worker.accept()
    side.register()
    good = hashlib.sha256(path.read_bytes()).hexdigest()
    for job, digest, words in (("j1", "0" * 64, "SHA-256"), ("j2", good, "archive refused")):
        fields = {"sourceTarUrl": f"file://{path}", "sourceTarDigest": digest, "jobId": job}
        side.dispatch([{"name": "s", "run": "true"}], **fields)
        end = side.until("job.status", state="failed", jobId=job)
        assert words in end["data"]["error"]
        side.until("agent.status", activeJobs=0)
    assert not list(tmp_path.rglob("escaped"))


# A102
def test_a_broken_dispatch_is_rejected_and_the_next_one_runs(worker, start_agent):
    start_agent()
    side = worker.accept()
    side.register()
    side.send("job.dispatch", runId="r", jobId="broken")
    assert side.until("job.reject")["jobId"] == "broken"
    side.dispatch([{"name": "s", "run": "echo fine"}])
    side.until("job.status", state="success")
    assert side.log_lines(0) == ["fine"]


def test_the_agent_ends_when_its_one_job_is_done(worker, start_agent):
    agent = start_agent(KICI_SCALER_MANAGED="1", KICI_SCALER_IDLE_TIMEOUT="200")
    side = worker.accept()
    side.register(scalerManaged=True, pendingDispatch=True)
    side.dispatch([{"name": "s", "run": "true"}])
    side.until("job.status", state="success")
    assert agent.wait() == 0
    assert side.until_closed() == (1000, "Agent disconnect")
    assert wait_for(lambda: agent.errors()).count("Warning") == 0
