"""The verbs that talk to a running worker, against a real web process."""

import json
import threading

from kici.cli.drain import n_left
from kici.cli.envfile import parse
from kici.cli.terminal import clean, duration, size
from kici.contracts.link.lifecycle import DrainRequest, DrainState, UndrainRequest
from tests.support.command import run_worker
from tests.support.web_child import (
    WebChild,
    capacity,
    finished,
    job,
    peer_state,
    scaler_slots,
    secret,
    slot,
)


def busy(web: WebChild) -> None:
    web.peer.tell(peer_state(1, "connected"))
    web.pool.tell(job(1, "j-run"))
    web.pool.tell(finished(2, "j-end", "failed", error="exit code 2\x1b[31m"))
    web.pool.tell(capacity(1, slot("a", 1), slot("b"), n_queued_jobs=2))
    web.eventually("/status", lambda b: b["activeJobs"] == 1 and b["recentJobs"])


def test_status_answers_the_operators_questions(web: WebChild, url: str) -> None:
    busy(web)
    ran = run_worker("status", "--url", url)
    assert ran.code == 0
    assert "pi-7" in ran.out
    assert "connected for" in ran.out
    assert "1 active, 0 starting, 2 queued; 2 slots free; agents 1 busy, 1 idle" in ran.out
    assert "Scaler: pi (bare-metal)  2/4" in ran.out
    assert "ci/build" in ran.out
    assert "\x1b" not in ran.out  # not a terminal, and nothing of a job's text


def test_status_says_why_no_job_is_taken(web: WebChild, url: str) -> None:
    broken = scaler_slots(healthy=False, reason="docker: connection refused")
    web.pool.tell(capacity(1, scalers=(broken,), refusing="No scaler works"))
    web.supervisor.tell(DrainState(rev=2, draining=True, stopping=False, reason="kernel"))
    web.eventually("/status", lambda b: b["draining"] and b["refusing"])
    out = run_worker("status", "--url", url).out
    assert "draining (kernel)" in out
    assert "Takes no jobs: No scaler works" in out
    assert "docker: connection refused" in out


def test_slots_of_a_scaler_that_cannot_start_agents_are_not_free(web: WebChild, url: str) -> None:
    reason = "agent binary /usr/bin/kici-agent is missing or not executable"
    broken = scaler_slots("broken", healthy=False, reason=reason)
    web.pool.tell(capacity(1, scalers=(scaler_slots(active=1), broken)))
    scalers = web.eventually("/status", lambda b: b["scalers"])["scalers"]
    assert [(one["freeSlots"], one["reason"]) for one in scalers] == [(3, ""), (0, reason)]
    assert "; 3 slots free;" in run_worker("status", "--url", url).out
    out = run_worker("explain", "--labels", "linux", "--url", url).out
    assert "broken matches; 0 of 4 slots free\n" in out
    assert reason in out


def test_status_as_json_is_the_answer_of_the_worker(web: WebChild, url: str) -> None:
    assert json.loads(run_worker("status", "--url", url, "--json").out)["instanceId"] == "pi-7"


def test_jobs_lists_what_runs_and_what_ended(web: WebChild, url: str) -> None:
    busy(web)
    out = run_worker("jobs", "--url", url).out
    assert out.splitlines()[0].split()[:4] == ["JOB", "NAME", "WORKFLOW", "STATE"]
    assert "j-run" in out.splitlines()[1]
    assert "exit code 2" in out.splitlines()[2]
    assert "\x1b" not in out
    assert len(json.loads(run_worker("jobs", "--url", url, "--json").out)["history"]) == 1


def test_the_port_is_found_by_the_workers_own_variables(web: WebChild) -> None:
    ran = run_worker("status", "--json", KICI_PORT=str(web.port), KICI_HOST="0.0.0.0")
    assert ran.code == 0


def test_the_port_is_found_in_an_env_file(web: WebChild, tmp_path) -> None:
    file = tmp_path / "worker.env"
    file.write_text(f"# comment\nKICI_PORT='{web.port}'\n")
    assert run_worker("status", "--env-file", str(file)).code == 0


def test_a_worker_that_is_down_is_exit_3_with_the_cause() -> None:
    ran = run_worker("status", "--url", "http://127.0.0.1:1")
    assert ran.code == 3
    assert "Failed to connect to worker at http://127.0.0.1:1: Connection refused" in ran.err


def test_a_server_that_is_no_worker_is_said_so(web: WebChild, url: str) -> None:
    ran = run_worker("status", "--url", url + "/nowhere")
    assert ran.code == 1
    assert "404" in ran.err


def test_drain_passes_reason_and_deadline(web: WebChild, url: str) -> None:
    ran = run_worker("drain", "--url", url, "--deadline", "30m", "--reason", "new kernel")
    assert (ran.code, ran.out) == (0, "Worker draining. Active jobs: 0\n")
    wish = web.supervisor.hear(DrainRequest)[0]
    assert (wish.deadline_s, wish.reason) == (1800.0, "new kernel")


def test_a_wrong_deadline_is_refused_with_the_reason(web: WebChild, url: str) -> None:
    ran = run_worker("drain", "--url", url, "--deadline", "soon")
    assert ran.code == 1
    assert "expected a duration" in ran.err


def test_drain_waits_until_nothing_is_left(web: WebChild, url: str) -> None:
    web.pool.tell(capacity(1, slot("a", 1)))
    web.eventually("/status", lambda b: b["activeJobs"] == 1)
    done = []
    thread = threading.Thread(
        target=lambda: done.append(run_worker("drain", "--url", url, "--wait"))
    )
    thread.start()
    web.supervisor.hear(DrainRequest)
    assert not done
    web.pool.tell(capacity(2))
    thread.join(15)
    assert (done[0].code, done[0].out) == (0, "Worker drained. No jobs left.\n")


def test_waiting_counts_queued_and_starting_jobs() -> None:
    assert n_left({"activeJobs": 1, "startingJobs": 2, "queuedJobs": 3}) == 6


def test_undrain_asks_for_jobs_again(web: WebChild, url: str) -> None:
    assert run_worker("undrain", "--url", url).out == "Worker takes jobs again.\n"
    web.supervisor.hear(UndrainRequest)


def test_the_admin_token_comes_from_the_environment_or_its_file(tmp_path) -> None:
    child = WebChild(tmp_path, admin_token=secret("s3cret"))
    try:
        url = f"http://127.0.0.1:{child.port}"
        refused = run_worker("drain", "--url", url)
        assert (refused.code, "admin token required" in refused.err) == (1, True)
        assert run_worker("drain", "--url", url, KICI_ADMIN_TOKEN="s3cret").code == 0
        file = tmp_path / "token"
        file.write_text("s3cret\n")
        assert run_worker("undrain", "--url", url, KICI_ADMIN_TOKEN_FILE=str(file)).code == 0
        words = ("admin", "drain-worker", "--url", url)
        assert run_worker(*words, module="user").code == 1
        assert run_worker(*words, module="user", KICI_ADMIN_TOKEN="s3cret").code == 0
        assert run_worker(*words, module="user", KICI_ADMIN_TOKEN_FILE=str(file)).code == 0
        wrong = run_worker(*words, "--token", "x", module="user", KICI_ADMIN_TOKEN="s3cret")
        assert wrong.code == 1
    finally:
        child.close()


def test_env_files_are_read_as_systemd_does() -> None:
    text = "A=1\n#B=2\n;C=3\n\nD='a b'\nE=\"x\"\nexport F=y z\nnoise\n"
    assert parse(text) == {"A": "1", "D": "a b", "E": "x", "F": "y z"}


def test_durations_and_sizes_are_short() -> None:
    assert [duration(s) for s in (0.44, 12, 185, 7620, 360000)] == [
        "0.4s",
        "12s",
        "3m05s",
        "2h07m",
        "4d04h",
    ]
    assert [size(n) for n in (7, 2048, 5 * 2**20)] == ["7 B", "2.0 KiB", "5.0 MiB"]


def test_control_characters_of_names_do_not_reach_the_terminal() -> None:
    assert clean("a\x1b[31mb\nc\x9b") == "a [31mb c "
