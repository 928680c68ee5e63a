"""Recorded traffic of the real agent and worker: ours says the same to the coordinator."""

import json
from pathlib import Path

import msgspec
import pytest

from kici.contracts.link.jobs import JobCancel, JobOffered
from kici.contracts.wire.agent import FromAgent
from kici.contracts.wire.agent.session import AgentRegister, AuthRequest
from kici.contracts.wire.peer import ToCoordinator
from tests.support.pool_world import OWNER, World, key, label_set, scaler

VECTORS = Path(__file__).parent / "vectors"
_from_agent = msgspec.json.Decoder(FromAgent)
_to_coordinator = msgspec.json.Decoder(ToCoordinator)


def recorded(name, direction):
    lines = [json.loads(line) for line in (VECTORS / f"{name}.jsonl").read_text().splitlines()]
    return [one["msg"] for one in lines if one.get("dir") == direction and "msg" in one]


def play(name):
    """The recorded offer and agent through our core."""
    world = World(scaler("bm", label_set("linux", "bare-metal"), max_agents=1))
    for message in recorded(f"job-{name}", "coordinator->worker"):
        if message["type"] == "job.reroute":
            run, job = message["runId"], message["jobId"]
            offered = msgspec.json.encode(message)
            world.do(
                JobOffered(key=key(job, run), message_id=message["messageId"], reroute=offered)
            )
            break
    agent = world.launched[0].agent_id
    world.backend(agent, "started")
    for message in recorded(f"agent-{name}", "agent->worker"):
        told = _from_agent.decode(msgspec.json.encode(message))
        if isinstance(told, AgentRegister):
            world.register(agent, told.labels, connection="c")
        elif not isinstance(told, AuthRequest):
            if (
                name == "cancel"
                and getattr(told, "state", "") == "cancelled"
                and not world.cancels()
            ):
                world.do(JobCancel(owner=OWNER, run_id=run, job_id=job, reason="cancel"))
            world.say(agent, told, "c")
    return world, job


# A53 A58 A103 A104 P51 W102
@pytest.mark.parametrize("name", ["success", "failure", "cancel"])
def test_coordinator_hears_what_the_reference_told(name):
    world, job = play(name)
    ours = [one for one in world.frames() if one["type"] == "job.progress"]
    theirs = [
        one
        for one in recorded(f"job-{name}", "worker->coordinator")
        if one["type"] == "job.progress" and one["jobId"] == job
    ]
    theirs = [one for number, one in enumerate(theirs) if one not in theirs[:number]]
    assert theirs
    assert [said(one) for one in ours] == [said(one) for one in theirs]


def said(frame):
    """A frame without the time, without an empty ``data`` (we leave it out), and without
    what we forward beyond the reference ([REC] of agent spec 2.2.9)."""
    beyond = ("logBytesStreamed", "stepType")
    data = {k: v for k, v in frame.get("data", {}).items() if k not in beyond}
    rest = {k: v for k, v in frame.items() if k not in ("timestamp", "data")}
    return rest | ({"data": data} if data else {})


@pytest.mark.parametrize("name", ["success", "failure", "cancel"])
def test_everything_told_is_of_a_shape_that_coordinators_take(name):
    world, _ = play(name)
    for frame in world.frames():
        _to_coordinator.decode(json.dumps(frame))
    logged = [line["text"] for one in world.frames() if "lines" in one for line in one["lines"]]
    written = [
        line
        for one in recorded(f"agent-{name}", "agent->worker")
        if one["type"] == "log.chunk"
        for line in one["lines"]
    ]
    assert logged == written
