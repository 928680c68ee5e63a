"""Deaths of children and of the supervisor itself."""

import os
import signal
import socket

import pytest

from tests.support.supervised import CHILDREN, alive
from tests.support.waiting import WAIT_S, wait_for


@pytest.mark.parametrize("victim", CHILDREN)
def test_a_killed_child_is_back_at_once_and_the_others_are_left_alone(supervised, victim):
    worker = supervised().start_ready()
    before = worker.pids()
    os.kill(before[victim], signal.SIGKILL)
    wait_for(lambda: worker.pid_of(victim) != before[victim], "a new pid")
    after = worker.pids()
    assert {name for name in CHILDREN if after[name] != before[name]} == {victim}
    died = next(line for line in worker.lines() if "died" in line["message"])
    starts = [
        line
        for line in worker.lines()
        if line["message"] == "Child started" and line["child"] == victim
    ]
    # 5-10 ms measured; the bound of the issue is 50 ms after the supervisor knows.
    # 5 to 10 ms; without our wake-up the library's loop takes a second or two.
    assert starts[1]["at"] - died["at"] < 0.5
    n_ready = 2 if victim != "web" else 1
    wait_for(lambda: worker.n_ready(victim) >= n_ready, "the child ready again", 2 * WAIT_S)


def test_a_restarted_child_first_hears_the_drain_state_and_owners_are_asked(supervised):
    worker = supervised().start_ready()
    worker.ask("drain")
    wait_for(lambda: worker.drain_of("peer")["draining"], "the drain")
    n_asked = len(worker.heard("pool", "snapshot.request"))
    os.kill(worker.pid_of("peer"), signal.SIGKILL)
    wait_for(
        lambda: len([m for m in worker.heard("peer") if m["sender"] == "start"]) == 2, "a start"
    )
    wait_for(lambda: len(worker.heard("pool", "snapshot.request")) > n_asked, "a request")
    heard = worker.heard("peer")
    second = max(i for i, message in enumerate(heard) if message["sender"] == "start")
    own = wait_for(
        lambda: [m for m in worker.heard("peer")[second:] if m["sender"] == "supervisor"], "words"
    )
    assert own[0]["type"] == "drain.state"
    assert own[0]["draining"] is True
    assert worker.heard("pool", "snapshot.request")[-1]["reader"] == "peer"


def test_children_leave_when_the_supervisor_is_killed(supervised):
    worker = supervised().start_ready()
    pids = worker.pids()
    worker.signal(signal.SIGKILL)
    worker.wait()
    for pid in pids.values():
        wait_for(lambda pid=pid: not alive(pid), "the end of an orphan", 5)


def test_no_child_holds_a_descriptor_that_is_not_its_own(supervised):
    worker = supervised().start_ready()
    for victim in CHILDREN:  # a restarted child inherits more than a first one
        os.kill(worker.pid_of(victim), signal.SIGKILL)
        wait_for(
            lambda victim=victim: len(
                [m for m in worker.heard(victim) if m["sender"] == "start"]
            ) == 2,
            "a start",
        )  # fmt: skip
    starts = [m for name in CHILDREN for m in worker.heard(name) if m["sender"] == "start"]
    assert len(starts) == 6
    assert all(start["foreign"] == [] for start in starts), starts


def test_restarts_leak_no_descriptor_in_the_supervisor(supervised):
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc to look into another process")
    worker = supervised().start_ready()
    directory = f"/proc/{worker.process.pid}/fd"
    before = len(os.listdir(directory))
    for n in range(2):
        os.kill(worker.pid_of("pool"), signal.SIGKILL)
        wait_for(lambda n=n: worker.n_ready("pool") == n + 2, "the pool ready again")
    assert len(os.listdir(directory)) == before


def test_a_web_restart_refuses_no_connection(supervised):
    worker = supervised().start_ready()
    old = worker.pid_of("web")
    os.kill(old, signal.SIGSTOP)
    with socket.create_connection(("127.0.0.1", worker.port), WAIT_S) as waiting:
        os.kill(old, signal.SIGKILL)
        assert worker.answers()
        waiting.settimeout(WAIT_S)
        assert waiting.recv(100).startswith(b"HTTP/1.0 200")


def test_a_child_that_cannot_boot_ends_the_worker_with_its_reason(supervised):
    worker = supervised()
    (worker.directory / "pool.cannot-boot").write_text("the socket of the engine is missing")
    assert worker.start().wait() == 1
    gave_up = next(line for line in worker.lines() if line["message"] == "Child gave up")
    assert gave_up["child"] == "pool"
    assert gave_up["reason"] == "the socket of the engine is missing"
    assert len([m for m in worker.heard("pool") if m["sender"] == "start"]) == 1


def test_a_child_that_blames_the_configuration_ends_the_worker_with_78(supervised):
    worker = supervised()
    (worker.directory / "peer.cannot-boot").write_text("configuration: no coordinator")
    assert worker.start().wait() == 78


def test_a_child_that_crashes_at_once_waits_longer_each_time(supervised):
    worker = supervised()
    (worker.directory / "peer.crash").touch()
    worker.start()

    def delays():
        return [line["delayS"] for line in worker.lines() if "delayS" in line]

    wait_for(lambda: len(delays()) >= 4, "four deaths")
    assert delays()[:2] == [0, 0]
    assert 0 < delays()[2] < delays()[3]
    stack = next(line["stack"] for line in worker.lines() if "stack" in line)
    assert "crash asked for" in stack
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0  # a stop does not wait for the back-off


def test_processes_show_their_names(supervised):
    pytest.importorskip("setproctitle")
    import subprocess

    worker = supervised().start_ready()
    for name, pid in worker.pids().items():
        shown = subprocess.run(
            ["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True
        )
        assert shown.stdout.strip() == f"kici-worker: {name}"
