"""Signals, drain and stop, with real processes."""

import os
import signal
import socket
import subprocess
import time
from types import SimpleNamespace

from tests.support.supervised import CHILDREN, alive, sigterm_and_wait
from tests.support.waiting import wait_for


# W122 W128 W129
def test_sigterm_when_idle_stops_in_order_within_two_seconds(supervised):
    worker = supervised().start_ready()
    code, seconds = sigterm_and_wait(worker)
    assert code == 0
    assert seconds < 2
    assert (worker.directory / "order").read_text().split() == ["peer", "pool", "web"]
    steps = [m for m in worker.messages() if m.endswith(("...", " done"))]
    assert steps == [
        "Draining in-flight jobs...",
        "Draining in-flight jobs done",
        "Disconnecting from coordinators...",
        "Disconnecting from coordinators done",
        "Shutting down scaler...",
        "Shutting down scaler done",
        "Closing HTTP server...",
        "Closing HTTP server done",
    ]
    last = worker.lines()[-1]
    assert (last["message"], last["exitCode"]) == ("Graceful shutdown complete", 0)


# W123 W126
def test_sigint_waits_for_the_job_that_runs(supervised):
    worker = supervised().start_ready()
    (worker.directory / "pool.busy").touch()
    worker.signal(signal.SIGINT)
    wait_for(lambda: worker.drain_of("pool")["stopping"], "the drain")
    assert worker.process.poll() is None
    assert worker.answers()  # W95: web answers during the drain
    (worker.directory / "pool.busy").unlink()
    assert worker.wait() == 0


# W124
def test_the_drain_ends_at_its_time_out(supervised):
    worker = supervised(drain_timeout_s=0.3).start_ready()
    (worker.directory / "pool.busy").touch()
    code, _seconds = sigterm_and_wait(worker)
    assert code == 0
    assert worker.heard("pool", "drain.cut")[-1]["reason"] == "drain timeout"


# W130
def test_a_second_signal_warns_and_cuts(supervised):
    worker = supervised().start_ready()
    (worker.directory / "pool.busy").touch()
    worker.signal(signal.SIGTERM)
    wait_for(lambda: worker.drain_of("pool")["stopping"], "the drain")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    warned = [line for line in worker.lines() if line["message"].startswith("Shutdown already")]
    assert [(line["level"], line["signal"]) for line in warned] == [("WARNING", "SIGTERM")]


# W131
def test_a_third_signal_kills_everything(supervised):
    worker = supervised().start_ready()
    pids = worker.pids()
    os.kill(pids["pool"], signal.SIGSTOP)  # hears nothing, answers nothing
    for n in (1, 2):
        worker.signal(signal.SIGTERM)
        said = ("Draining", "Shutdown already")[n - 1]
        wait_for(lambda said=said: any(m.startswith(said) for m in worker.messages()), said)
    began = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 1
    assert time.monotonic() - began < 10
    assert not any(alive(pid) for pid in pids.values())


# W132
def test_a_drain_request_never_ends_the_process_and_can_be_taken_back(supervised):
    worker = supervised(drain_timeout_s=0.1).start_ready()
    worker.ask("drain")
    for child in CHILDREN:
        wait_for(lambda c=child: worker.drain_of(c)["draining"], "the drain")
    state = worker.drain_of("pool")
    assert state["stopping"] is False
    assert state["deadline_at"] is None
    worker.ask("undrain")
    wait_for(lambda: worker.drain_of("pool")["draining"] is False, "the undrain")
    assert worker.process.poll() is None
    assert sigterm_and_wait(worker)[0] == 0


# W136
def test_sighup_reloads_and_a_bad_file_changes_nothing(supervised):
    worker = supervised().start_ready()
    worker.signal(signal.SIGHUP)
    changed = wait_for(lambda: worker.heard("pool", "config.changed"), "the change")
    assert b"7" in _bytes(changed[0]["scalers"])
    assert wait_for(lambda: worker.heard("web", "reload.result"), "the result")[0]["ok"] is True
    (worker.directory / "bad").touch()
    worker.signal(signal.SIGHUP)
    results = wait_for(lambda: worker.heard("web", "reload.result")[1:], "the second result")
    assert results[0]["ok"] is False
    assert results[0]["problems"] == ["scalers.yaml: scalers: expected a list"]
    assert len(worker.heard("pool", "config.changed")) == 1
    refused = next(line for line in worker.lines() if line["message"].startswith("Reload refused"))
    assert refused["problems"] == ["scalers.yaml: scalers: expected a list"]


def test_a_reload_names_the_settings_that_need_a_restart(supervised):
    worker = supervised().start_ready()
    (worker.directory / "other-port").touch()
    worker.ask("reload")
    result = wait_for(lambda: worker.heard("web", "reload.result"), "the result")[0]
    assert result["problems"] == ["port: changed, takes effect after a restart"]


# W137
def test_usr_signals_are_harmless_to_every_process(supervised):
    worker = supervised().start_ready()
    before = worker.pids()
    for pid in (worker.process.pid, *before.values()):
        os.kill(pid, signal.SIGUSR1)
        os.kill(pid, signal.SIGUSR2)
    for pid in before.values():
        os.kill(pid, signal.SIGHUP)
    assert worker.answers()
    worker.ask("drain")
    wait_for(lambda: worker.drain_of("peer")["draining"], "peer still hears")
    assert worker.pids() == before
    assert sigterm_and_wait(worker)[0] == 0


# W150
def test_a_closed_log_reader_does_not_end_the_worker(supervised):
    worker = supervised()
    reader, writer = os.pipe()
    worker.start(stdout=writer)
    os.close(writer)
    wait_for(lambda: all(worker.n_ready(name) for name in CHILDREN), "three ready children")
    os.close(reader)
    worker.ask("drain")  # makes every process say something
    wait_for(lambda: worker.drain_of("pool")["draining"], "the drain")
    assert worker.answers()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_a_port_in_use_is_a_clear_error_and_exit_one(supervised):
    worker = supervised()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", worker.port))
        taken.listen()
        assert worker.start().wait() == 1
    (line,) = worker.lines()
    assert line["message"] == "Fatal startup error"
    assert line["error"].startswith(f"Cannot listen on 127.0.0.1 port {worker.port}: Address")


# W138
def test_an_uncaught_error_in_the_supervisor_is_logged_and_ends_the_children(supervised):
    worker = supervised(drain_timeout_s="not a number").start_ready()
    pids = worker.pids()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 1
    crashed = next(line for line in worker.lines() if line["message"] == "Uncaught exception")
    assert "TypeError" in crashed["stack"]
    assert not any(alive(pid) for pid in pids.values())


def test_workerctl_shows_the_three_children_on_a_private_socket(supervised):
    worker = supervised().start_ready()
    path = worker.directory / "supervisor.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    pids = worker.pids()

    def status() -> list[list[str]]:
        shown = _workerctl(worker, "status")
        return [line.split() for line in shown.stdout.splitlines()]

    rows = wait_for(lambda: all("RUNNING" in row for row in status()) and status(), "RUNNING")
    assert [(row[0], row[1], row[3].rstrip(",")) for row in rows] == [
        (name, "RUNNING", str(pids[name])) for name in sorted(CHILDREN)
    ]
    assert _workerctl(worker, "restart", "pool").returncode == 0
    wait_for(lambda: worker.pid_of("pool") != pids["pool"], "a new pool")
    assert _workerctl(worker, "shutdown").returncode == 0
    assert worker.wait() == 0
    assert "Graceful shutdown complete" in worker.messages()
    assert not path.exists()


def test_workerctl_explains_itself_without_a_worker_and_says_where_it_looked(tmp_path):
    nobody = SimpleNamespace(directory=tmp_path)
    shown = _workerctl(nobody, "--help")
    assert (shown.returncode, "handover" in shown.stdout) == (0, True)
    missing = _workerctl(nobody, "status")
    assert missing.returncode == 4
    assert "no worker runs there (is KICI_RUNTIME_DIR" in missing.stderr


def _workerctl(worker, *arguments: str) -> subprocess.CompletedProcess:
    import sys

    return subprocess.run(
        [sys.executable, "-c", "from kici.cli.workerctl import main; main()", *arguments],
        env={**os.environ, "PYTHONPATH": ".", "KICI_RUNTIME_DIR": str(worker.directory)},
        capture_output=True,
        text=True,
        timeout=30,
    )


def _bytes(builtin: str) -> bytes:
    import base64

    return base64.b64decode(builtin)
