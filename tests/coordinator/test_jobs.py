"""The table of jobs: what is kept and what is found."""

import pytest

from tests.coordinator.world import World


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path / "data")
    yield made
    made.store.close()


def ended(world):
    job = world.submit()
    world.dispatcher.cancel(job.job_id, "x", False, world.now)
    return job.job_id


def numbers(world):
    return [job["number"] for job in world.rows.listed(100)]


def test_oldest_ended_jobs_go_first_and_running_ones_stay(world):
    waiting = world.submit()
    for _ in range(5):
        ended(world)
    assert world.rows.prune(keep=2) == 3
    assert numbers(world) == [6, 5, 1]
    assert world.rows.shown(waiting.job_id)["state"] == "queued"


def test_logs_of_all_jobs_together_are_bounded(world):
    for _ in range(4):
        ended(world)
    world.store.write("UPDATE jobs SET log_bytes = 100")
    world.rows.prune(keep_log_bytes=250)
    assert numbers(world) == [4, 3]


def test_details_of_steps_count_like_logs(world):
    for _ in range(4):
        job_id = ended(world)
        world.store.write("INSERT INTO step_sums VALUES (?, 1, 60, 0)", job_id)
    world.store.write("UPDATE jobs SET log_bytes = 40")
    world.rows.prune(keep_log_bytes=250)
    assert numbers(world) == [4, 3]


def test_job_is_found_by_the_beginning_of_its_id_when_it_is_the_only_one(world):
    first = world.submit().job_id
    assert world.rows.shown(first[:4])["jobId"] == first
    assert world.rows.shown(first[:3]) is None
    world.store.write("UPDATE jobs SET job_id = 'abcd-1'")
    world.submit()
    world.store.write("UPDATE jobs SET job_id = 'abcd-2' WHERE number = 2")
    assert world.rows.shown("abcd") is None
    assert world.rows.shown("abcd-2")["number"] == 2


def test_details_beyond_their_bound_are_not_kept(world):
    job = world.submit()
    from kici.contracts.states import HeldState

    world.rows.ended(job.job_id, HeldState.FAILED, "x", {"outputs": "y" * 300_000})
    assert "not kept" in world.rows.shown(job.job_id)["data"]["error"]
