"""24 hours without the coordinator, under the virtual clock."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPOOL_BYTES = 2**20


@pytest.fixture(scope="module")
def day():
    ran = subprocess.run(
        [sys.executable, "-m", "tests.chaos.memory.absence"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


# P60, P63
def test_what_is_kept_through_a_day_of_absence_is_bounded(day):
    for sample in day["samples"]:
        assert sample["spool_counted"] < SPOOL_BYTES * 1.1
        assert sample["spool_files"] < SPOOL_BYTES * 2.1
        assert sample["queued"] + sample["pool_waiting"] < SPOOL_BYTES
        assert sample["pool_undone"] == 0
    assert day["samples"][0]["lost_lines"] > 10_000


# P59, P54
def test_jobs_go_on_and_end_while_the_coordinator_is_away(day):
    after_two_hours = day["samples"][1]
    assert after_two_hours["concluded"] == 3
    assert after_two_hours["pool_jobs"] == after_two_hours["agents"] == 0
    assert day["samples"][1:] == [after_two_hours] * 23


# P54, P56, C49
def test_everything_concluded_is_delivered_after_the_day(day):
    assert day["states"] == ["success"] * 3
    assert day["violations"] == []
