"""A hand-over (restart, upgrade) of a real supervisor: over at once, unless jobs wait."""

import os
import signal
import subprocess
import sys
import time

from tests.support.waiting import wait_for


def start_handover(worker) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", "from kici.cli.workerctl import main; main()", "handover"],
        env={**os.environ, "PYTHONPATH": ".", "KICI_RUNTIME_DIR": str(worker.directory)},
        stderr=subprocess.PIPE,
        text=True,
    )


def result(order: subprocess.Popen) -> tuple[int, str]:
    _out, errors = order.communicate(timeout=30)
    return order.returncode, errors


def test_a_hand_over_ends_a_busy_worker_at_once_pool_first(supervised):
    worker = supervised().start_ready()
    (worker.directory / "pool.busy").touch()  # a job runs: nobody waits for it
    began = time.monotonic()
    assert result(start_handover(worker)) == (0, "")
    assert worker.wait() == 0
    assert time.monotonic() - began < 10  # not the time that a drain may take
    assert (worker.directory / "order").read_text().split() == ["pool", "peer", "web"]
    asked = [worker.heard(child, "leave")[-1]["handover"] for child in ("pool", "peer", "web")]
    assert asked == [True, True, True]
    assert worker.heard("pool", "drain.cut") == []


def test_a_hand_over_waits_for_jobs_that_no_agent_has(supervised):
    worker = supervised().start_ready()
    for name in ("pool.busy", "pool.waiting"):
        (worker.directory / name).touch()
    order = start_handover(worker)
    wait_for(lambda: worker.drain_of("pool").get("handover"), "the hand-over")
    assert worker.answers()
    assert worker.process.poll() is None
    (worker.directory / "pool.waiting").unlink()
    assert result(order) == (0, "")
    assert worker.wait() == 0


def test_sigterm_turns_a_waiting_hand_over_into_a_drain(supervised):
    worker = supervised().start_ready()
    for name in ("pool.busy", "pool.waiting"):
        (worker.directory / name).touch()
    order = start_handover(worker)
    wait_for(lambda: worker.drain_of("pool").get("handover"), "the hand-over")
    worker.signal(signal.SIGTERM)
    wait_for(lambda: worker.drain_of("pool")["stopping"], "the drain")
    for name in ("pool.waiting", "pool.busy"):
        (worker.directory / name).unlink()
    assert worker.wait() == 0
    assert (worker.directory / "order").read_text().split() == ["peer", "pool", "web"]
    assert result(order)[0] == 0


def test_a_hand_over_without_a_worker_says_so(supervised):
    worker = supervised().start_ready()
    worker.signal(signal.SIGTERM)
    worker.wait()
    code, errors = result(start_handover(worker))
    assert code == 4
    assert "no worker runs there" in errors
