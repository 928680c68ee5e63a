"""A job that writes lines for a while, so that faults happen in its middle."""

LINES = 30
WHOLE = [f"line {i}" for i in range(1, LINES + 1)]


def writes(pause_s: float) -> str:
    """Its script: ``LINES`` numbered lines, ``pause_s`` apart."""
    return f"for i in $(seq {LINES}); do echo line $i; sleep {pause_s}; done"


def started(house, steps):
    """The id of the job, which has begun to write."""
    job = house.submit("long", steps)
    house.wait_log(job, "line 3")
    return job


def ends_whole(house, job, timeout_s=60.0):
    """The job succeeded, said so once, and every line is there once and in order."""
    row = house.wait_end(job, timeout_s)
    assert row["state"] == "success", row
    assert house.log(job, 0) == WHOLE
    assert house.terminals(job) == ["success"]
