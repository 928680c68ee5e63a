"""Agent messages become peer frames, once, and fast."""

import json
import time

import pytest

from kici.contracts.link.jobs import LogCredit
from kici.contracts.wire.agent.jobs import JobStatus, LogChunk, StepStatus
from kici.pool import relay
from kici.pool.events import AgentSaid
from kici.protocol.agent_frames import parse
from tests.support.pool_world import World


def chunk(*lines, **more):
    return LogChunk(
        message_id="m", run_id="r1", job_id="j1", step_index=1, lines=lines, timestamp=7, **more
    )


# P62 A59 A63 W103
def test_log_lines_are_objects_with_the_agents_time_and_a_stream():
    [(n_lines, frame)] = relay.log_frames(chunk("a", "b\nc", stream="stderr"))
    assert n_lines == 2
    assert json.loads(frame) == {
        "type": "peer.log.chunk",
        "runId": "r1",
        "jobId": "j1",
        "stepIndex": 1,
        "lines": [
            {"text": "a", "timestamp": 7, "stream": "stderr"},
            {"text": "b\nc", "timestamp": 7, "stream": "stderr"},
        ],
    }
    [(_, frame)] = relay.log_frames(chunk(""))
    assert json.loads(frame)["lines"] == [{"text": "", "timestamp": 7, "stream": "stdout"}]


# A22 A23
def test_large_chunks_are_split_and_nothing_is_lost():
    assert not list(relay.log_frames(chunk()))
    lines = [f"{number} " + "x" * 1000 for number in range(1200)]
    frames = list(relay.log_frames(chunk(*lines)))
    texts = [one["text"] for _, frame in frames for one in json.loads(frame)["lines"]]
    assert texts == lines
    assert all(n <= 500 for n, _ in frames)
    assert all(len(frame) < 600_000 for _, frame in frames)
    huge = "y" * 5_000_000
    parts = [
        one["text"] for _, f in relay.log_frames(chunk(huge)) for one in json.loads(f)["lines"]
    ]
    assert "".join(parts) == huge
    assert len(parts) == 3


# P72
def test_terminal_report_that_is_too_large_says_so_and_shrinks():
    data = {"error": "bad", "durationMs": 5, "outputs": {"a": "z" * 30_000_000}}
    frame = relay.job_frame("r1", "j1", "failed", 1, data)
    assert len(frame) < 2000
    told = json.loads(frame)["data"]
    assert told["durationMs"] == 5
    assert told["error"].startswith("bad (report of 30000")


def nested(depth):
    data = []
    for _ in range(depth - 1):
        data = [data]
    return {"outputs": data, "durationMs": 5}


# P72
@pytest.mark.parametrize("depth", [150, 985, 990, 5000])
def test_a_report_that_is_nested_too_deeply_says_so(depth):
    told = json.loads(relay.job_frame("r1", "j1", "success", 1, nested(depth)))["data"]
    assert told["durationMs"] == 5
    assert told["error"].startswith("report was nested too deeply")


def test_a_deep_or_a_wide_report_passes_as_it_is():
    for data in (nested(90), {"outputs": [[] for _ in range(500)]}):
        assert json.loads(relay.job_frame("r1", "j1", "success", 1, data))["data"] == data


# P72
def test_a_step_that_says_too_much_is_cut_to_what_the_links_carry():
    many = {"outputs": [1e15] * 2_000_000}
    step = StepStatus(
        message_id="m", run_id="r1", job_id="j1", step_index=1, step_name="n" * 10**7,
        state="success", timestamp=1, data=many, secrets_accessed=("a" * 10**7,),
    )  # fmt: skip
    frame = relay.step_frame(step, "success")
    assert len(frame) < 3000
    assert "was too large" in json.loads(frame)["data"]["error"]


# A23a
@pytest.mark.parametrize("depth", range(960, 1010))
def test_no_depth_of_an_agents_data_breaks_the_core(depth):
    data = '{"a":' + "[" * depth + "]" * depth + "}"
    head = '"messageId":"m","runId":"r1","jobId":"j1","state":"success","timestamp":1'
    for text in (
        f'{{"type":"job.status",{head},"data":{data}}}',
        f'{{"type":"step.status","stepIndex":1,"stepName":"s",{head},"data":{data}}}',
    ):
        world = World()
        world.register()
        world.offer()
        world.run()
        if message := parse(text):
            world.say("a1", message)


def test_dropped_jobs_at_the_top_level_are_not_lost():
    message = JobStatus(
        message_id="m", run_id="r", job_id="j", state="failed", timestamp=1, dropped_jobs=("x",)
    )
    assert relay.status_data(message) == {"droppedJobs": ["x"]}


def test_log_lines_pass_at_far_more_than_200_000_a_cpu_second():
    """The core's share of the target; the bound leaves room for a slow machine."""
    world = World(credit=2**50)
    world.register()
    world.offer()
    world.run()
    event = AgentSaid("c-a1", chunk(*["x" * 100] * 100))
    begin = time.process_time()
    for _ in range(2000):
        world.core.handle(event, world.now)
    spent = time.process_time() - begin
    assert 200_000 / spent > 600_000


# P63
def test_without_credit_agents_pause_and_nothing_is_lost_or_reordered():
    world = World(credit=500)
    world.register()
    world.offer()
    world.run()
    for number in range(20):
        world.log(f"line {number}")
    assert sum(type(one).__name__ == "PauseAgent" for one in world.actions) == 1
    world.step("success")
    world.end()
    assert not world.finished()
    world.do(LogCredit(n_bytes=10_000))
    frames = world.frames()
    texts = [one["lines"][0]["text"] for one in frames if one["type"] == "peer.log.chunk"]
    assert texts == [f"line {number}" for number in range(20)]
    assert [one.get("state") for one in frames[-2:]] == ["success", "success"]
    assert sum(type(one).__name__ == "ResumeAgent" for one in world.actions) == 1


# P63
def test_log_beyond_the_bound_is_counted_in_the_log_itself(monkeypatch):
    monkeypatch.setattr("kici.pool.outflow.MAX_WAITING_BYTES", 1000)
    world = World(credit=0)
    world.register()
    world.offer()
    world.run()
    for number in range(20):
        world.log(f"line {number}")
    world.end()
    world.do(LogCredit(n_bytes=100_000))
    texts = [one["lines"][0]["text"] for one in world.frames() if one["type"] == "peer.log.chunk"]
    n_kept = len(texts) - 1
    assert texts[-1] == (
        f"[kici-worker: {20 - n_kept} log lines lost, the log buffer of the worker was full]"
    )
    assert world.frames()[-1]["state"] == "success"
