"""Reports of workers of another make: odd, deep and large ones (C43, C45)."""

import json

import pytest

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


def nested(depth, inner="x"):
    """A list in a list in a list ..."""
    for _ in range(depth):
        inner = [inner]
    return inner


# C45: from what nearly every stack takes to what none does.
@pytest.mark.parametrize("depth", [102, 900, 5000])
@pytest.mark.parametrize("key", ["outputs", "error", "reason", "logLines"])
def test_deeply_nested_details_are_left_out_and_the_end_counts(running, depth, key):
    world, job, reroute = running
    odd = {key: nested(depth), "durationMs": 7}
    world.report("w1", reroute, "running", kind="step", step_name="s", data=odd)
    world.report("w1", reroute, "failed", data=odd)
    shown = world.rows.shown(job.job_id)
    assert (shown["state"], shown["reason"]) == ("failed", None)
    assert "nested" in shown["data"]["error"]
    assert "nested" in shown["steps"][0]["data"]["error"]
    assert len(world.links["w1"].take("job.progress.ack")) == 1


def test_details_that_are_wide_and_not_deep_are_kept(running):
    world, job, reroute = running
    wide = {"outputs": {"a": [[number] for number in range(500)]}, "error": {"message": "no"}}
    world.report("w1", reroute, "failed", data=wide)
    shown = world.rows.shown(job.job_id)
    assert (shown["data"], shown["reason"]) == (wide, "no")


# C45: the same through a real process, whose stacks are its own.
def test_deep_report_on_a_real_link_ends_the_job_and_keeps_the_link(coordinator, job):
    with coordinator.worker() as worker:
        worker.beat(native())
        job_id = coordinator.submit(job)
        reroute = worker.accept()
        report = {
            "type": "job.progress", "kind": "job", "runId": reroute["runId"], "jobId": job_id,
            "jobName": "", "stepIndex": 0, "stepName": "", "state": "success", "timestamp": 1,
        }  # fmt: skip
        for depth in (100_000, *range(1000, 900, -5)):  # the first ones nobody can read
            deep = json.dumps(report)[:-1] + ',"data":{"x":' + "[" * depth + "]" * depth + "}}"
            worker.say(deep.encode())
        worker.report(reroute, "success")
        worker.expect("job.progress.ack", jobId=job_id)
        assert coordinator.job(job_id)["state"] == "success"
    assert "Traceback" not in coordinator.log.read_text()
