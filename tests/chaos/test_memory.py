"""Random fault schedules against the whole chain in memory (``make chaos`` runs many more)."""

import subprocess
import sys
from pathlib import Path

from tests.chaos.memory.history import directory_of
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]


def simulate(*options, timeout_s=600):
    """The simulator needs a process of its own: its clocks are virtual."""
    return subprocess.run(
        [sys.executable, "-m", "tests.chaos.memory", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


# P11, P12, P42, P49, P50, P53, P54, P55, P56, P59, P60, P61, P62, P63, P66
# C36, C38, C43, C44, C45, C46, C49, C51, C52, C53
# A17, A35, A37, A60, A61, A76, A77, A78, A80, A90, A97
def test_nothing_accepted_is_lost_under_random_faults():
    ran = simulate("--seeds", "40")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "40 schedules" in ran.stdout


def test_a_seed_plays_the_same_way_each_time():
    first, second = (simulate("--seed", "7", "-v").stdout for _ in range(2))
    assert first == second
    assert "checked" in first


def test_a_run_that_is_stopped_leaves_nothing():
    run = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.memory", "--seeds", "1000", "--jobs", "2"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    children = wait_for(lambda: _of_group(run.pid)[1:], "a child plays")
    directories = [directory_of(pid) for pid in children]
    wait_for(lambda: all(one.exists() for one in directories), "schedules have begun")
    run.terminate()
    assert "stopped" in run.communicate(timeout=60)[1]
    assert not any(one.exists() for one in directories)
    assert not _of_group(run.pid)


def _of_group(leader):
    shown = subprocess.run(["ps", "ax", "-o", "pid=,pgid="], capture_output=True, text=True).stdout
    rows = [map(int, row.split()) for row in shown.splitlines()]
    return sorted(pid for pid, group in rows if group == leader)
