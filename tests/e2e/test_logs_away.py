"""Logs while the coordinator is away or slow: in order, whole, or with a counted gap."""

import subprocess
import time

import pytest

from tests.chaos.real_check import GAP
from tests.e2e.conftest import behind_proxy
from tests.support.house import House
from tests.support.waiting import wait_for


@pytest.fixture
def small_spool(tmp_path):
    """64 KiB of spool, and a proxy before the coordinator."""
    with behind_proxy(tmp_path, KICI_LOG_SPOOL_MAX="64k") as house:
        yield house


# P63
def test_more_than_the_spool_holds_leaves_a_counted_gap(small_spool):
    house = small_spool
    go = house.root / "go"
    script = f"echo started; until [ -e {go} ]; do sleep 0.05; done; seq 1 50000"
    job = house.submit("loud", script)
    house.wait_log(job, "started")
    house.proxy.refuse = True
    house.proxy.cut()
    wait_for(lambda: house.status().get("coordinatorConnection") != "connected", "link lost")
    go.touch()
    wait_for(lambda: not house.agents(), "the job ended", 30)
    house.proxy.heal()
    assert house.wait_end(job)["state"] == "success"
    log = house.log(job, 0)
    numbers = [int(line) for line in log if line.isdecimal()]
    assert numbers == sorted(set(numbers))
    assert missing(log) > 0
    assert len(numbers) + missing(log) == 50_000
    spool = house.root / "runtime/log-spool"
    assert sum(path.stat().st_size for path in spool.iterdir()) < 2**20


# P63
def test_lines_over_a_link_that_breaks_again_and_again_are_there_or_counted(small_spool):
    house = small_spool
    job = house.submit("loud", "for i in $(seq 20); do seq 1 2000; sleep 0.2; done")
    for _ in range(8):
        time.sleep(0.4)
        house.proxy.cut()
    assert house.wait_end(job, 60)["state"] == "success"
    log = house.log(job, 0)
    assert len([line for line in log if line.isdecimal()]) + missing(log) == 40_000


# A93, P48, A48
def test_no_secret_touches_a_file_a_title_or_a_log_while_everything_dies(house):
    secret = "correct-horse-battery-staple-42"
    job = house.submit(
        "secret",
        {
            "run": "for i in $(seq 20); do echo $i $TOKEN; sleep 0.2; done; exit 1",
            "secretEnv": {"TOKEN": "TOKEN"},
        },
        secrets={"TOKEN": secret},
    )
    house.wait_log(job, "1 ***")
    house.kill_child("peer")
    house.coordinator.kill()
    titles = subprocess.run(["ps", "axww", "-o", "args="], capture_output=True, text=True).stdout
    assert secret not in titles
    house.kill_worker()
    found = grep(house, secret)
    house.start_coordinator()
    house.start_worker()
    row = house.wait_end(job)
    assert row["state"] == "failed"
    assert secret not in str(row)
    # Three deaths at once: a line may be lost in memory, and is counted then.
    log = house.log(job, 0)
    masked = [line for line in log if line.endswith(" ***")]
    assert set(masked) <= {f"{i} ***" for i in range(1, 21)}
    assert len(masked) + missing(log) == 20
    assert found == grep(house, secret) == ""


def missing(log):
    """Lines that the log itself counts as missing."""
    return sum(int(found[1]) for line in log if (found := GAP.search(line)))


def grep(house, text):
    done = subprocess.run(
        ["grep", "-rlaF", text, str(house.root)], capture_output=True, text=True, check=False
    )
    return done.stdout


# P49, P63
def test_two_workers_on_one_coordinator_keep_to_their_own_jobs(tmp_path):
    first, second = House(make(tmp_path, "first")), House(make(tmp_path, "second"))
    second.coordinator_port = second.link_port = first.coordinator_port
    second.extra_env["KICI_CLUSTER_INSTANCE_ID"] = "worker-2"
    try:
        first.start()
        second.start_worker(first.join_token())
        jobs = [first.submit(f"job-{i}", "for i in $(seq 40); do echo $i; sleep 0.1; done")
                for i in range(4)]  # fmt: skip
        for job in jobs:  # what no agent has yet would be given up with its payload
            first.wait_log(job, "1")
        first.kill_worker()
        second.kill_child("pool")
        first.start_worker()
        rows = [first.wait_end(job) for job in jobs]
        assert [row["state"] for row in rows] == ["success"] * 4
        assert {row["holder"] for row in rows} == {"worker-1", "worker-2"}
        for job in jobs:
            assert first.log(job, 0) == [str(i) for i in range(1, 41)]
    finally:
        second.close()
        first.close()


def make(root, name):
    (root / name).mkdir()
    return root / name
