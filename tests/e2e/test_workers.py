"""A worker among others: whom it dials, and what it owes its neighbours."""

import os
import signal
from pathlib import Path

import pytest

from tests.support.house import House


def remote_ends(pids):
    """Remote addresses, as /proc/net/tcp prints them, of the TCP sockets of ``pids``."""
    inodes = set()
    for pid in pids:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = os.readlink(fd)
            except FileNotFoundError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[len("socket:[") : -1])
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = row.split()
            if words[9] in inodes and words[3] != "0A":  # listening
                yield words[1].rpartition(":")[2], words[2]


# W2
@pytest.mark.skipif(not os.path.isdir("/proc/net"), reason="needs /proc")
def test_an_idle_worker_is_connected_to_its_coordinator_and_nobody_else(house):
    served = f"{house.port:04X}"
    dialled = [remote for local, remote in remote_ends(house.worker_pids()) if local != served]
    assert dialled == [f"0100007F:{house.coordinator_port:04X}"]


# W119
def test_workers_of_one_coordinator_do_not_disturb_each_other(house, tmp_path):
    go = tmp_path / "go"
    root = tmp_path / "second"
    root.mkdir()
    second = House(root, env={"KICI_CLUSTER_INSTANCE_ID": "worker-2"})
    second.link_port = house.coordinator_port
    try:
        second.start_worker(house.join_token())
        waits = f"echo started; while [ ! -e {go} ]; do sleep 0.05; done; echo end"
        jobs = [house.submit(f"job-{n}", waits) for n in range(4)]
        for job in jobs:
            house.wait_log(job, "started")
        assert len(house.agents()) == len(second.agents()) == 2
        second.kill_worker()
        assert house.web("GET", "/health")[0] == 200
        second.start_worker()
        go.touch()
        assert [house.wait_end(job)["state"] for job in jobs] == ["success"] * 4
        assert all(house.log(job, 0) == ["started", "end"] for job in jobs)
        second.worker.signal(signal.SIGTERM)
        assert second.worker.wait(10) == 0
        last = house.submit("last", "echo alone")
        assert house.wait_end(last)["state"] == "success"
    finally:
        second.close()
