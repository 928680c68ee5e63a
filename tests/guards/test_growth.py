"""What an ended job leaves in memory: nothing, once what is remembered has its full size."""

import gc
import tracemalloc

from kici.contracts.link import JobKey
from kici.protocol.offers import Offers
from kici.protocol.remembered import Remembered
from tests.support.pool_world import World

GENERATION = 100
N_WARM, N_JOBS = 1000, 2000
#: 5 bytes: a table that is just being enlarged, spread over all jobs. One key that stays
#: is 350.
MAX_BYTES_A_JOB = 5
#: Keys themselves took 400.
MAX_BYTES_A_REMEMBERED_KEY = 100


def growth_a_job(run_job):
    """Bytes that each of ``N_JOBS`` jobs leaves behind, after ``N_WARM`` others."""
    for number in range(N_WARM):
        run_job(number)
    gc.collect()
    tracemalloc.start()
    try:
        # What is replaced now was not traced: only from here on do old and new count alike.
        for number in range(N_WARM, 2 * N_WARM):
            run_job(number)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for number in range(2 * N_WARM, 2 * N_WARM + N_JOBS):
            run_job(number)
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / N_JOBS
    finally:
        tracemalloc.stop()


def ids(number):
    """As long as real ones, and never the same object."""
    return f"run-{number:032d}", f"job-{number:032d}"


def test_jobs_leave_nothing_in_the_peer():
    offers = Offers(lambda: 1000)
    offers._ended = Remembered(GENERATION)

    def run_job(number):
        run_id, job_id = ids(number)
        key = JobKey(owner="ws://coordinator:4000", run_id=run_id, job_id=job_id)
        offers.offered(key, f"m{number}", b"{}", number)
        offers.accepted(key)
        offers.dispatched(key)
        offers.finished(key, b"{}")
        offers.receipted(key)

    assert growth_a_job(run_job) <= MAX_BYTES_A_JOB


def test_jobs_leave_nothing_in_the_pool():
    world = World()
    world.register()
    world.core.board.recent = Remembered(GENERATION)

    def run_job(number):
        run_id, job_id = ids(number)
        world.offer(job_id, run_id)
        world.run("a1", job_id, run_id)
        world.step("success", "a1", job_id, run_id)
        world.log("a line", job=job_id, run=run_id)
        world.end("success", "a1", job_id, run_id)
        world.store(job_id, run_id)
        for kept in (world.actions, world.sent, world.notes, *world.told.values()):
            kept.clear()

    assert growth_a_job(run_job) <= MAX_BYTES_A_JOB
    assert len(world.core.board.jobs) == 0


def test_a_remembered_key_costs_little():
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = Remembered()
        for number in range(9_700):
            kept.add(JobKey(owner="ws://c", run_id=f"r{number}", job_id=f"j{number}"))
        size = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert size / 9_700 <= MAX_BYTES_A_REMEMBERED_KEY
