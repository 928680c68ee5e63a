"""What is kept of a job's steps and attempts, whatever its worker reports (C43)."""

import sqlite3

import pytest

from kici.coordinator.jobs import MAX_ATTEMPTS
from kici.coordinator.steps import MAX_DATA_BYTES, MAX_NAME, MAX_ROWS
from kici.coordinator.store import Store
from tests.coordinator.world import World, native


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path / "data")
    yield made
    made.store.close()


@pytest.fixture
def running(world):
    """A world, a job that runs at w1, and its offer."""
    world.connect("w1", native())
    job = world.submit()
    reroute = world.accepted("w1")
    world.report("w1", reroute, "running")
    return world, job, reroute


def step(world, reroute, index, state="success", **more):
    world.report("w1", reroute, state, kind="step", step_index=index, step_name="s", **more)


def sums(world):
    (row,) = world.store.read("SELECT COUNT(*), SUM(length(CAST(data AS BLOB))) FROM steps")
    return tuple(row)


def last_line(world, job):
    (*_, row) = world.store.read("SELECT lines FROM log_chunks WHERE job_id = ?", job.job_id)
    return bytes(row[0]).decode()


def test_steps_beyond_the_bound_are_counted_and_said(running):
    world, job, reroute = running
    for index in range(MAX_ROWS + 30):
        step(world, reroute, index)
    step(world, reroute, 3, "failed")  # a known one is still heard
    shown = world.rows.shown(job.job_id)
    assert len(shown["steps"]) == MAX_ROWS
    assert shown["steps"][3]["state"] == "failed"
    assert shown["stepReportsDropped"] == 30
    world.report("w1", reroute, "success")
    assert "30 reports about steps were not kept" in last_line(world, job)


def test_details_of_all_steps_together_are_bounded_counted_and_said(running):
    world, job, reroute = running
    big = {"outputs": "x" * 200_000}
    fits = MAX_DATA_BYTES // 200_100
    for index in range(fits + 5):
        step(world, reroute, index, data=big)
    n_rows, n_bytes = sums(world)
    assert n_rows == fits + 5
    assert n_bytes <= MAX_DATA_BYTES + 5 * 200
    shown = world.rows.shown(job.job_id)
    assert shown["steps"][0]["data"] == big
    assert "not kept" in shown["steps"][-1]["data"]["error"]
    assert shown["steps"][-1]["state"] == "success"
    assert shown["stepReportsDropped"] == 5
    world.report("w1", reroute, "success")
    assert "5 reports about steps were not kept" in last_line(world, job)


def test_details_that_are_replaced_do_not_add_up(running):
    world, job, reroute = running
    for _ in range(3 * MAX_DATA_BYTES // 200_000):
        step(world, reroute, 0, "running", data={"outputs": "x" * 200_000})
    step(world, reroute, 0, data={"exitCode": 0})
    shown = world.rows.shown(job.job_id)
    assert shown["steps"][0]["data"] == {"exitCode": 0}
    assert shown["stepReportsDropped"] == 0


def test_the_count_survives_a_crash_and_a_refused_commit(running):
    world, job, reroute = running
    for index in range(MAX_ROWS + 2):
        step(world, reroute, index)
    world.store.commit()
    step(world, reroute, MAX_ROWS + 3)
    world.store.rollback()
    world.restart()
    world.connect("w1", native())
    step(world, reroute, MAX_ROWS + 3)
    assert world.rows.shown(job.job_id)["stepReportsDropped"] == 3


def test_what_is_kept_of_a_job_goes_with_it(running):
    world, job, reroute = running
    step(world, reroute, 0, data={"a": 1})
    world.report("w1", reroute, "success")
    world.rows.prune(keep=0)
    for table in ("steps", "step_sums", "attempts", "jobs"):
        assert world.store.read(f"SELECT * FROM {table}") == []


def test_a_database_of_the_second_version_keeps_its_sums(tmp_path):
    store = Store(tmp_path, lambda: 1)
    store.write(
        "INSERT INTO jobs (job_id, run_id, name, workflow, labels, state, created_at)"
        " VALUES ('j', 'r', 'n', 'w', '', 'running', 1)"
    )
    for index, data in enumerate(('{"a":"é"}', None)):
        store.write("INSERT INTO steps VALUES ('j', ?, 's', 'success', 1, 1, ?)", index, data)
    store.close()
    with sqlite3.connect(tmp_path / "coordinator.db") as db:
        db.executescript("DROP TABLE step_sums; PRAGMA user_version = 2;")
    db.close()
    store = Store(tmp_path, lambda: 1)
    assert [tuple(row) for row in store.read("SELECT * FROM step_sums")] == [("j", 2, 10, 0)]
    store.close()


def test_names_of_steps_are_cut(running):
    world, job, reroute = running
    world.report("w1", reroute, "running", kind="step", step_name="n" * 100_000)
    assert len(world.rows.shown(job.job_id)["steps"][0]["name"]) == MAX_NAME


# C38: who must not get the job again is never forgotten.
def test_attempts_of_a_job_are_bounded_and_the_burned_stay(world):
    world.connect("w1", native())
    job = world.submit()
    world.offer("w1")
    world.connect("w2", native())
    world.pass_time(16)  # no answer from w1
    reroute = world.accepted("w2")
    for number in range(MAX_ATTEMPTS + 50):
        world.scaler_event("w2", reroute, f"scaler.{number}" + "x" * 100_000, "d" * 100_000)
    rows = world.store.read("SELECT outcome, length(outcome), length(reason) FROM attempts")
    assert len(rows) <= MAX_ATTEMPTS + 1
    assert max(row[1] for row in rows) <= 100
    assert rows[-1][0].startswith(f"scaler.{MAX_ATTEMPTS + 49}")
    assert world.rows.burned(job.job_id) == {"w1"}


def test_long_reasons_of_a_refusal_are_cut(world):
    world.connect("w1", native())
    job = world.submit()
    world.ack("w1", world.offer("w1"), accepted=False, reason="no" * 100_000)
    assert len(world.rows.shown(job.job_id)["attempts"][0]["reason"]) <= 2000
