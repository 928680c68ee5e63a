"""``kici-worker run`` with the real peer, pool and web; no coordinator answers."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support.supervised import CHILDREN, alive, free_port
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]


class Worker:
    """Owns: one real worker, its directory and port."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.log = directory / "log"
        self.runtime_dir = directory / "run"
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "PYTHONPATH": str(ROOT),
            "KICI_CLUSTER_ROLE": "worker",
            "KICI_CLUSTER_COORDINATOR_URL": f"ws://127.0.0.1:{free_port()}/ws/peer",
            "KICI_CLUSTER_JOIN_TOKEN": "kici_join_v1.abc.def",
            "KICI_CLUSTER_INSTANCE_ID": "real",
            "KICI_DATA_DIR": str(directory),
            "KICI_RUNTIME_DIR": str(self.runtime_dir),
            "KICI_PORT": str(self.port),
            "KICI_LOG_FORMAT": "json",
        }
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from kici.cli.worker import main; main()", "run"],
                env=environ,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def lines(self) -> list[dict]:
        text = self.log.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def pid_of(self, child: str) -> int:
        started = [line for line in self.lines() if line["message"] == "Child started"]
        return [line["childPid"] for line in started if line["child"] == child][-1]

    def pids(self) -> dict[str, int]:
        return {child: self.pid_of(child) for child in CHILDREN}

    def get(self, path: str) -> dict | None:
        """The JSON answer; None while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return json.loads(answer.read())
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None


@pytest.fixture
def worker(tmp_path):
    made = Worker(tmp_path)
    wait_for(lambda: made.get("/health"), "/health")
    yield made
    pids = [line["childPid"] for line in made.lines() if line["message"] == "Child started"]
    if made.process.poll() is None:
        made.process.kill()
    made.process.wait()
    for pid in pids:
        wait_for(lambda pid=pid: not alive(pid), f"the end of child {pid}")


# W122
def test_a_real_idle_worker_stops_within_two_seconds(worker):
    assert worker.get("/status")["instanceId"] == "real"
    began = time.monotonic()
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(10) == 0
    assert time.monotonic() - began < 2
    assert worker.lines()[-1]["message"] == "Graceful shutdown complete"


@pytest.mark.parametrize("victim", CHILDREN)
def test_a_killed_real_child_is_back_at_once_and_alone(worker, victim):
    before = worker.pids()
    os.kill(before[victim], signal.SIGKILL)
    wait_for(lambda: worker.pid_of(victim) != before[victim], "a new pid", 5)
    wait_for(lambda: worker.get("/health"), "/health", 5)
    after = worker.pids()
    assert {name for name in CHILDREN if after[name] != before[name]} == {victim}
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(10) == 0


# W132
def test_a_posted_drain_shows_and_the_process_stays(worker):
    request = urllib.request.Request(f"http://127.0.0.1:{worker.port}/drain", method="POST")
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert json.loads(answer.read())["draining"] is True
    wait_for(lambda: worker.get("/status")["draining"], "the drain in /status")
    assert worker.process.poll() is None
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(10) == 0


def test_no_real_child_holds_a_foreign_link(worker):
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc to look into other processes")
    sockets = {}
    for name, pid in worker.pids().items():
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        sockets[name] = {link for link in links if link.startswith("socket:")}
    for one in CHILDREN:
        for other in CHILDREN:
            # A link's two ends are different sockets: nothing may be in two children.
            assert one == other or not sockets[one] & sockets[other]
