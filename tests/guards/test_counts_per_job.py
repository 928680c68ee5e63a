"""What one job costs, in messages, bytes and system calls of a real worker."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter

import pytest

from bench import processes
from bench.work import Work
from bench.worker_end import rig
from kici.contracts.link import JobKey
from kici.peer.outbox import Outbox

N_JOBS = 50
#: Measured: 30 to 50, most of them of the peer and the thread of its disk.
MAX_WAKEUPS = 80
#: Messages the coordinator gets for a job of one step: ack, running, two of the step, log,
#: the end; heartbeats of changed capacity come on top.
MAX_FRAMES = 9
#: One page, the end; the promise is a name only. The history's share of another.
MAX_WRITTEN_BYTES = 5_600
MAX_CALLS = {
    "pool": {"sendto": 16, "write": 6},
    "peer": {"sendto": 12, "fsync": 4, "openat": 6, "rename": 2},
    "web": {"write": 1, "openat": 1},
}


@pytest.fixture(scope="module")
def worker():
    with rig({"KICI_LOG_LEVEL": "warn"}) as made:
        made.add_agents(4)
        Work(made).run_jobs(20)
        yield made


def test_a_job_costs_few_frames_wakeups_and_bytes(worker):
    work = Work(worker)
    before = processes.usage(worker.worker.pids)
    work.run_jobs(N_JOBS, at_once=1)
    used = processes.usage(worker.worker.pids).since(before)
    assert 6 <= work.n_frames / N_JOBS <= MAX_FRAMES
    assert used.wakeups / N_JOBS <= MAX_WAKEUPS
    assert used.written_bytes / N_JOBS <= MAX_WRITTEN_BYTES


def test_an_idle_worker_sleeps_and_writes_nothing(worker):
    worker.loop.rest(1.0)
    pids = worker.worker.pids
    before, tasks, began = processes.usage(pids), processes.wakeups(pids), time.monotonic()
    worker.loop.rest(4.0)
    seconds, after = time.monotonic() - began, processes.wakeups(pids)
    # Threads that end meanwhile take their counts with them: only those that stay count.
    woken = sum(n - tasks.get(task, 0) for task, n in after.items())
    assert 0 <= woken / seconds <= 12
    assert processes.usage(pids).written_bytes == before.written_bytes


def strace_works():
    if shutil.which("strace") is None:
        return False
    done = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.skipif(not strace_works(), reason="needs strace and the right to trace")
@pytest.mark.parametrize("name", MAX_CALLS)
def test_a_job_costs_few_system_calls(worker, tmp_path, name):
    output = tmp_path / "calls"
    pid = worker.worker.pid_of(name)
    tracer = subprocess.Popen(
        ["strace", "-c", "-f", "-o", str(output), "-p", str(pid)], stderr=subprocess.PIPE
    )
    try:
        assert b"attached" in tracer.stderr.readline()
        Work(worker).run_jobs(N_JOBS, at_once=1)
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(10)
        tracer.stderr.close()
    calls = Counter()
    for row in output.read_text().splitlines():
        found = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", row)
        if found:
            calls[found[2]] = int(found[1])
    assert calls["epoll_wait"] > 0, output.read_text()
    a_job = {call: calls[call] / N_JOBS for call in MAX_CALLS[name]}
    too_many = {call: n for call, n in a_job.items() if n > MAX_CALLS[name][call]}
    assert not too_many, a_job


def test_the_outbox_writes_few_bytes_and_files_a_job(tmp_path, monkeypatch):
    key = JobKey(owner="ws://coordinator:4000", run_id="r" * 36, job_id="j" * 36)
    report = b'{"type":"job.progress","runId":"%s","jobId":"%s"}' % (b"r" * 36, b"j" * 36)
    outbox = Outbox(tmp_path / "outbox", [key.owner], max_age_s=60, wall=time.time)
    outbox.load()
    outbox.open(JobKey(owner=key.owner, run_id="r", job_id="first-of-its-url"), None)
    written, real = [], os.write
    monkeypatch.setattr(
        os, "write", lambda fd, data: (written.append(len(data)), real(fd, data))[1]
    )
    outbox.open(key, "coordinator-1")
    outbox.conclude(key, report)
    outbox.forget(key)
    assert len(written) == 1
    assert sum(written) - len(report) <= 300
