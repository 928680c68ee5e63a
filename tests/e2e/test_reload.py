"""SIGHUP and ``kici-worker reload`` while four jobs run (issue 4 item 6, must show)."""

import signal

import pytest

from tests.support.command import run_worker
from tests.support.house import SCRIPTS, House
from tests.support.waiting import wait_for

SCALER = """
  - name: {name}
    type: bare-metal
    maxAgents: {slots}
    orchestratorUrl: ws://127.0.0.1:{port}/ws
    labelSets:
      - labels: [linux, {label}, "runtime:native"]
        binaryPath: {agent}
"""
LINES = 12
WRITES = "for i in $(seq 12); do echo line $i; sleep 0.5; done"
WHOLE = [f"line {i}" for i in range(1, LINES + 1)]


def write(house, *scalers):
    rows = [
        SCALER.format(
            name=name, slots=slots, label=label, port=house.port, agent=SCRIPTS / "kici-agent"
        )
        for name, slots, label in scalers
    ]
    house.write_scalers("version: 1\nscalers:" + "".join(rows))


@pytest.fixture
def two(tmp_path):
    """A house with two scalers, two slots each."""
    house = House(tmp_path)
    write(house, ("one", 2, "test"), ("two", 2, "old"))
    try:
        yield house.start()
    finally:
        house.close()
    assert not house.agents(), "agents left behind"


def reload(house):
    return run_worker("reload", "--url", f"http://127.0.0.1:{house.port}")


def scalers(house):
    return {row["name"]: row for row in house.status()["scalers"]}


def four_running(house):
    jobs = [
        *(house.submit(f"kept-{n}", WRITES) for n in range(2)),
        *(house.submit(f"old-{n}", WRITES, **{"runs-on": ["linux", "old"]}) for n in range(2)),
    ]
    for job in jobs:
        house.wait_log(job, "line 1")
    return jobs


# W136
def test_four_running_jobs_are_not_disturbed_by_a_reload(two):
    jobs = four_running(two)
    agents = set(two.agents())
    write(two, ("one", 3, "test"), ("new", 1, "fresh"))
    told = reload(two)
    assert (told.code, told.out) == (0, "Reloaded.\n"), told
    assert {name: row["maxAgents"] for name, row in scalers(two).items()} == {"one": 3, "new": 1}
    # The new label set, and the slot that was added, work while the four still run.
    fresh = two.submit("fresh", "echo fresh", **{"runs-on": ["linux", "fresh"]})
    third = two.submit("third", "echo third")
    for job in (fresh, third):
        assert two.wait_end(job)["state"] == "success"
    assert agents <= set(two.agents()), "an agent of a running job is gone"
    # The scaler that was removed takes nothing more.
    late = two.submit("late", "true", **{"runs-on": ["linux", "old"]})
    for job in jobs:
        assert two.wait_end(job)["state"] == "success"
        assert two.log(job, 0) == WHOLE
    assert two.job(late)["state"] not in ("success", "running")
    wait_for(lambda: not two.agents(), "the removed scaler retired")
    messages = [row.get("message", "") for row in two.worker.lines()]
    assert any("Scaler two is removed" in message for message in messages)


# W136, W137
@pytest.mark.parametrize("by", ["signal", "command"])
def test_a_broken_file_is_refused_with_its_place_and_changes_nothing(two, by):
    job = two.submit("running", WRITES)
    two.wait_log(job, "line 1")
    before = scalers(two)
    two.write_scalers("version: 1\nscalers:\n  - name: one\n    type: bare-metal\n   oops: 1\n")
    if by == "signal":
        two.worker.signal(signal.SIGHUP)
        last = wait_for(lambda: two.status().get("lastReload"), "reload told")
        assert last["ok"] is False
        said = " ".join(last["problems"])
    else:
        told = reload(two)
        assert told.code == 1
        said = told.out
    assert str(two.scalers) in said
    assert "line 5" in said
    assert scalers(two) == before
    assert two.wait_end(job)["state"] == "success"
    assert two.log(job, 0) == WHOLE
    after = two.submit("after", "echo yes")
    assert two.wait_end(after)["state"] == "success"


def test_a_wrong_value_is_refused_with_its_path(two):
    write(two, ("one", 0, "test"))
    told = reload(two)
    assert told.code == 1
    assert "scalers[0].maxAgents" in told.out
    assert set(scalers(two)) == {"one", "two"}


def test_a_scaler_comes_back_by_another_reload(two):
    write(two, ("one", 2, "test"))
    assert reload(two).code == 0
    write(two, ("one", 2, "test"), ("two", 2, "old"))
    two.worker.signal(signal.SIGHUP)
    wait_for(lambda: set(scalers(two)) == {"one", "two"}, "two is back")
    job = two.submit("again", "echo yes", **{"runs-on": ["linux", "old"]})
    assert two.wait_end(job)["state"] == "success"
