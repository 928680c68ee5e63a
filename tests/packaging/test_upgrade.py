"""Restart, upgrade, downgrade and reboot of an installed worker with a running host job."""

import contextlib
import sqlite3
import time

import pytest

from tests.support import next_version
from tests.support import slow_job as slow

pytestmark = [pytest.mark.systemd, pytest.mark.debian, pytest.mark.root, pytest.mark.slow]

NEWER, OLDER = f"{next_version.VERSION}-1", "0.1.0-1"


@pytest.fixture
def newer(running, packages, tmp_path):
    """The packages of a next version lie in /opt; the current one runs."""
    next_version.make(packages, tmp_path)
    for deb in tmp_path.glob("*.deb"):
        (running.root / "opt" / deb.name).write_bytes(deb.read_bytes())
    return running


#: How many jobs daemons of this machine have adopted so far.
COUNT = "journalctl -u kici-worker -o cat | grep -c 'Agent came back with its job'"


def adopted(machine):
    return int(machine.try_run(COUNT)[1])


def pid(machine):
    return machine.run("systemctl show -P MainPID kici-worker")


def test_a_restart_under_a_running_job_is_over_at_once_and_harms_nothing(running):
    job = slow.start(running)
    before = pid(running)
    began = time.monotonic()
    running.run("systemctl restart kici-worker")
    took = time.monotonic() - began
    print(f"restart under a running job: {took:.1f} s")
    assert pid(running) != before
    assert took < 10  # READY of the new one included; the job runs on meanwhile
    assert "running" in running.run(slow.state(job))
    slow.ends_whole(running, job)
    journal = running.run("journalctl -u kici-worker -o cat")
    assert "Leaving agents to the next start done" in journal
    assert "Agent came back with its job" in journal
    assert running.run("systemctl show -P NRestarts kici-worker") == "0"


def test_upgrade_and_downgrade_under_running_jobs_harm_nothing(newer):
    n_adopted = adopted(newer)
    for version, debs in ((NEWER, "/opt"), (OLDER, "/opt/apt/pool/main/k/kici-worker")):
        job = slow.start(newer)
        began = time.monotonic()
        newer.run(
            "export DEBIAN_FRONTEND=noninteractive;"
            f"apt-get install -y -qq --allow-downgrades {debs}/*_{version}_all.deb",
            120,
        )
        print(f"apt-get install {version}: {time.monotonic() - began:.1f} s")
        assert version.rpartition("-")[0] in newer.run("kici-worker version")
        newer.wait_for(f"{COUNT} | grep -x {n_adopted + 1}")
        n_adopted += 1
        slow.ends_whole(newer, job)


def test_a_stop_cancels_and_reports_a_job_that_is_longer_than_the_drain(running):
    running.put(
        "/etc/systemd/system/kici-worker.service.d/test.conf",
        "[Service]\nEnvironment=KICI_DRAIN_TIMEOUT=2\n",
    )
    running.run("systemctl daemon-reload; systemctl restart kici-worker")
    job = slow.start(running)
    began = time.monotonic()
    running.run("systemctl stop kici-worker", 60)
    took = time.monotonic() - began
    print(f"stop of a job longer than a drain of 2 s: {took:.1f} s")
    assert 2 <= took < 32
    assert running.run("systemctl show -P Result kici-worker") == "success"
    assert running.run(slow.state(job)) == "cancelled"
    assert running.try_run("pgrep -f '[k]ici-agent'")[0] != 0


def test_a_poweroff_waits_for_the_running_job_and_reports_it(running):
    job = slow.start(running)
    slow.let_go(running, 4)
    # On one machine: the coordinator's unit is before the worker's, so it stops after it.
    running.power_off(60)
    database = running.root / "var/lib/kici-coordinator/coordinator.db"
    with contextlib.closing(sqlite3.connect(database)) as store:
        ((state,),) = store.execute("SELECT state FROM jobs WHERE job_id = ?", (job,))
    assert state == "success"
