"""The machine pool's ledger is shared with other workers, the reference's included."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kici.config.model import ResourceCap, ResourceSpec
from kici.pool.ledger import Ledger
from kici.pool.ledger_file import LedgerBroken, locked

CAP = ResourceCap(max_cpu=4, max_memory_bytes=4 * 2**30)
TWO = ResourceSpec(cpus=2)
BOOT = Path("/proc/sys/kernel/random/boot_id")


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "ledger"


def ledger(directory, instance="w1", **more):
    return Ledger(str(directory), instance, **more)


def rows(directory):
    return json.loads((directory / "pool.json").read_text())["reservations"]


def write(directory, *reservations, cap=None):
    directory.mkdir(exist_ok=True)
    book = {
        "version": 1,
        "cap": cap or {"maxCpu": 4, "maxMemoryBytes": 4 * 2**30},
        "reservations": list(reservations),
    }
    (directory / "pool.json").write_text(json.dumps(book))


def foreign(directory, **changes):
    """A row as the reference writes it, of another instance on this boot."""
    ledger(directory, "probe").reserve("pool", CAP, "x", ResourceSpec())
    boot_id = rows(directory)[0]["bootId"]
    return {
        "instanceId": "other",
        "pid": 2**22 + 1,
        "bootId": boot_id,
        "agentId": "scaler-container-00000001",
        "cpus": 3,
        "memBytes": 0,
        "reservedAt": 1,
    } | changes


# S58
def test_file_has_the_references_form(directory):
    assert (
        ledger(directory).reserve("pool", CAP, "a1", ResourceSpec(cpus=2, memory_bytes=1024)) == ""
    )
    text = (directory / "pool.json").read_text()
    assert text.startswith('{\n  "version": 1,')
    book = json.loads(text)
    assert book["cap"] == {"maxCpu": 4, "maxMemoryBytes": 4 * 2**30}
    [row] = book["reservations"]
    assert (row["instanceId"], row["pid"], row["agentId"]) == ("w1", os.getpid(), "a1")
    assert (row["cpus"], row["memBytes"]) == (2, 1024)
    assert {"bootId", "reservedAt"} <= set(row)
    assert sorted(path.name for path in directory.iterdir()) == ["pool.json"]


# S59 S57
def test_sum_above_the_cap_is_refused_and_a_release_makes_room(directory):
    one = ledger(directory)
    assert one.reserve("pool", CAP, "a1", TWO) == ""
    assert ledger(directory, "w2").reserve("pool", CAP, "a2", TWO) == ""
    assert "CPUs" in one.reserve("pool", CAP, "a3", TWO)
    assert "bytes" in one.reserve("pool", CAP, "a3", ResourceSpec(memory_bytes=5 * 2**30))
    one.release("pool", "a1")
    one.release("pool", "a1")
    assert one.reserve("pool", CAP, "a3", TWO) == ""


# S59
def test_rows_of_other_boots_and_of_dead_processes_do_not_count(directory):
    stays = foreign(directory)
    write(
        directory,
        stays,
        stays | {"agentId": "old", "bootId": "another"},
        stays | {"agentId": "mine", "instanceId": "w1"},
        stays | {"agentId": "ours", "instanceId": "w9", "pidStarted": "5"},
        stays | {"agentId": "reused", "instanceId": "w9", "pid": os.getpid(), "pidStarted": "5"},
    )
    ledger(directory).reserve("pool", CAP, "new", ResourceSpec(cpus=1))
    assert [row["agentId"] for row in rows(directory)] == [stays["agentId"], "new"]


# S61
def test_leaving_removes_all_own_rows_and_no_other(directory):
    one = ledger(directory)
    for agent in ("a1", "a2"):
        one.reserve("pool", CAP, agent, ResourceSpec(cpus=1))
    ledger(directory, "w2").reserve("pool", CAP, "b", ResourceSpec(cpus=1))
    one.release_all(["pool", "never-used"])
    assert [row["agentId"] for row in rows(directory)] == ["b"]


# S60
def test_old_lock_is_taken_over_and_a_young_one_is_waited_for(directory):
    directory.mkdir()
    lock = directory / "pool.lock"
    lock.mkdir()
    old = time.time() - 31
    os.utime(lock, (old, old))
    assert ledger(directory).reserve("pool", CAP, "a1", TWO) == ""
    lock.mkdir()
    waiting = subprocess.Popen(
        [sys.executable, "-c", f"import time, os; time.sleep(0.2); os.rmdir({str(lock)!r})"]
    )
    assert ledger(directory).reserve("pool", CAP, "a2", TWO) == ""
    assert waiting.wait(10) == 0
    assert not lock.exists()


# S60
def test_a_lock_that_was_taken_from_us_is_no_error(directory):
    """The clock stepped, or the machine was suspended: another process took it over."""
    directory.mkdir()
    with locked(directory / "pool.lock", time.time):
        (directory / "pool.lock").rmdir()
    assert ledger(directory).reserve("pool", CAP, "a1", TWO) == ""


def test_a_lock_that_cannot_be_given_back_breaks_the_ledger(directory):
    directory.mkdir()
    with pytest.raises(LedgerBroken), locked(directory / "pool.lock", time.time):
        (directory / "pool.lock" / "strange").touch()


def test_lock_that_is_never_released_is_an_error(directory, monkeypatch):
    monkeypatch.setattr("kici.pool.ledger_file.LOCK_ATTEMPTS", 3)
    (directory / "pool.lock").mkdir(parents=True)
    with pytest.raises(LedgerBroken, match="held by another process"):
        ledger(directory).reserve("pool", CAP, "a1", TWO)


def test_what_cannot_be_trusted_is_an_error_and_reserves_nothing(directory):
    write(directory, foreign(directory), cap={"maxCpu": 9})
    with pytest.raises(LedgerBroken, match="another cap"):
        ledger(directory).reserve("pool", CAP, "a1", TWO)
    (directory / "pool.json").write_text('{"version": 2, "cap": {}, "reservations": []}')
    with pytest.raises(LedgerBroken, match="version 2"):
        ledger(directory).reserve("pool", CAP, "a1", TWO)
    (directory / "pool.json").write_text("{")
    with pytest.raises(LedgerBroken):
        ledger(directory).reserve("pool", CAP, "a1", TWO)
    assert not (directory / "pool.lock").exists()


def test_cap_may_change_while_nobody_else_has_a_share(directory):
    mine = ledger(directory)
    assert mine.reserve("pool", CAP, "a1", TWO) == ""
    assert mine.reserve("pool", ResourceCap(max_cpu=8), "a2", ResourceSpec(cpus=6)) == ""
    assert json.loads((directory / "pool.json").read_text())["cap"] == {"maxCpu": 8}
    assert ledger(directory, "other").reserve("pool", ResourceCap(max_cpu=8), "a3", TWO)


# S59
def test_reaper_drops_dead_rows_and_writes_nothing_otherwise(directory):
    mine = ledger(directory)
    mine.reserve("pool", CAP, "a1", TWO)
    write(directory, foreign(directory, bootId="earlier"), *rows(directory))
    assert mine.reap("pool") == 1
    assert [row["agentId"] for row in rows(directory)] == ["a1", "x"]
    before = (directory / "pool.json").stat().st_mtime_ns
    assert mine.reap("pool") == 0
    assert mine.reap("unused") == 0
    assert (directory / "pool.json").stat().st_mtime_ns == before


def test_shares_of_agents_that_outlived_us_are_claimed_again(directory):
    dead = foreign(directory, instanceId="w1", agentId="a1")
    write(directory, dead)
    mine = ledger(directory)
    mine.claim("pool", CAP, {"a1": ResourceSpec(cpus=3), "a2": ResourceSpec(cpus=1)})
    assert {row["agentId"]: row["pid"] for row in rows(directory)} == {
        "a1": os.getpid(),
        "a2": os.getpid(),
    }
    assert ledger(directory, "other").reserve("pool", CAP, "a3", ResourceSpec(cpus=1))
    mine.release("pool", "a1")
    assert ledger(directory, "other").reserve("pool", CAP, "a3", ResourceSpec(cpus=1)) == ""


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "", "a\0b"])
def test_name_that_leaves_the_directory_is_refused(directory, name):
    with pytest.raises(LedgerBroken):
        ledger(directory).reserve(name, CAP, "a1", TWO)


def test_a_name_that_is_too_long_for_a_file_breaks_this_pool_only(directory):
    one, name = ledger(directory), "x" * 300
    with pytest.raises(LedgerBroken):
        one.reserve(name, CAP, "a1", TWO)
    with pytest.raises(LedgerBroken):
        one.reap(name)
    one.release(name, "a1")
    one.release_all([name])


# S53 S59
def test_processes_that_race_never_exceed_the_cap(directory):
    script = (
        "import sys; from kici.config.model import *; from kici.pool.ledger import Ledger\n"
        "one = Ledger(sys.argv[1], sys.argv[2])\n"
        "cap = ResourceCap(max_cpu=4, max_memory_bytes=4 * 2**30)\n"
        "one_cpu = ResourceSpec(cpus=1)\n"
        "print(sum(not one.reserve('pool', cap, f'a{n}', one_cpu) for n in range(5)))\n"
        "sys.stdout.flush(); sys.stdin.read()"
    )
    racing = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(directory), f"w{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        for number in range(3)
    ]
    try:
        assert sum(int(one.stdout.readline()) for one in racing) == 4
    finally:
        for one in racing:
            one.communicate(timeout=10)
