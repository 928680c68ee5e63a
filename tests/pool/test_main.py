"""The pool as a process: real links, real WebSockets, real time."""

import json
import threading
import time
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from kici.config.model import LabelSet, Scaler
from kici.contracts.link.jobs import (
    JobAccepted,
    JobDispatched,
    JobFinished,
    JobLogged,
    JobOffered,
    JobProgressed,
    JobStored,
    LogCredit,
    OpenJob,
)
from kici.contracts.link.lifecycle import ChildFailed, DrainDone, DrainState
from kici.contracts.link.views import AgentView, PoolCapacity
from tests.support.pool_child import TORN_CORE, Agent, PoolChild
from tests.support.pool_world import key, reroute


@pytest.fixture
def started(tmp_path):
    children = []

    def start(**changes):
        children.append(PoolChild(tmp_path, **changes))
        return children[-1]

    yield start
    for child in children:
        child.close()


def offer(pool, job="j1", **more):
    pool.peer.tell(
        JobOffered(key=key(job), message_id=f"offer-{job}", reroute=reroute(job, **more))
    )


# W96 W102 W103 W104 A55
def test_job_runs_through_the_process_and_ends_once_stored(started):
    pool = started()
    agent = pool.agent()
    offer(pool)
    assert pool.peer.hear(JobAccepted)[0].key == key()
    assert agent.hear("job.dispatch")["secrets"] == {"TOKEN": "s3cr3t"}
    agent.job("job.ack")
    pool.peer.hear(JobDispatched)
    agent.job("job.status", state="running")
    assert json.loads(pool.peer.hear(JobProgressed)[0].frame)["state"] == "running"
    agent.job("log.chunk", stepIndex=0, lines=["hello"])
    assert b"hello" in pool.peer.hear(JobLogged)[0].frame
    agent.job("job.status", state="success", data={"durationMs": 3})
    agent.say("agent.status", messageId="m", agentId="a1", activeJobs=0)
    finished = pool.peer.hear(JobFinished)[0]
    assert json.loads(finished.frame)["data"] == {"durationMs": 3}
    pool.supervisor.tell(DrainState(rev=2, draining=True, stopping=True, reason="stop"))
    pool.peer.tell(JobStored(key=key()))
    pool.supervisor.hear(DrainDone)
    assert pool.leave() == 0
    agent.close()


# A79 A27
def test_killed_pool_adopts_the_running_job_of_the_agent_that_comes_back(started):
    pool = started()
    agent = pool.agent()
    offer(pool)
    agent.hear("job.dispatch")
    agent.job("job.ack")
    agent.job("job.status", state="running")
    pool.peer.hear(JobProgressed)
    pool.kill()
    agent.close()
    pool.restart(OpenJob(key=key(), accepted_at=time.time()))
    agent = pool.agent(inFlightJobs=[{"jobId": "j1", "runId": "r1"}])
    assert json.loads(pool.peer.hear(JobProgressed)[0].frame)["state"] == "running"
    agent.job("job.status", state="success")
    assert pool.peer.hear(JobFinished)[0].state == "success"
    agent.close()


# W100 P60 S73 S82
def test_backend_that_cannot_start_is_told_and_leaving_reaps_what_did_start(started):
    sets = (LabelSet(labels=("linux",), enriched=("linux",)),)
    scalers = [
        Scaler(name="s1", type="fake", max_agents=2, label_sets=sets),
        Scaler(
            name="s2",
            type="fake",
            max_agents=2,
            label_sets=(LabelSet(labels=("x",), enriched=("x",), env={"FAKE_FAIL": "no"}),),
        ),
    ]
    pool = started(scalers=scalers)
    offer(pool)
    offer(pool, "j2", labels=("x",))
    while True:
        view = pool.web.hear(AgentView)[0]
        if view.scaler_name == "s1" and view.state == "starting":
            break
    while True:
        view = pool.web.hear(AgentView)[0]
        if view.scaler_name == "s2" and view.state == "gone":
            break
    assert pool.leave() == 0


# P35
def test_agents_are_advertised_within_a_second(started):
    pool = started()
    begin = time.monotonic()
    agent = pool.agent()
    while not pool.peer.hear(PoolCapacity)[0].agents:
        pass
    assert time.monotonic() - begin < 1.0
    agent.close()


def test_dispatch_follows_the_offer_quickly(started):
    pool = started()
    agent = pool.agent()
    spent = []
    for number in range(30):
        begin = time.perf_counter()
        offer(pool, f"j{number}")
        agent.hear("job.dispatch")
        spent.append(time.perf_counter() - begin)
        agent.job("job.status", state="success", jobId=f"j{number}")
        agent.say("agent.status", messageId="m", agentId="a1", activeJobs=0)
        pool.peer.hear(JobFinished)
        pool.peer.tell(JobStored(key=key(f"j{number}")))
    assert sorted(spent)[15] < 0.02
    agent.close()


def test_web_that_reads_nothing_holds_up_no_job(started):
    pool = started()
    agent = pool.agent()
    for number in range(400):
        offer(pool, f"j{number}")
        agent.hear("job.dispatch")
        for step in range(5):
            agent.job(
                "step.status", jobId=f"j{number}", stepIndex=step, stepName="s", state="success"
            )
        agent.job("job.status", state="success", jobId=f"j{number}")
        agent.say("agent.status", messageId="m", agentId="a1", activeJobs=0)
        pool.peer.hear(JobFinished)
        pool.peer.tell(JobStored(key=key(f"j{number}")))
    agent.close()
    for _ in range(5000):
        if pool.web.hear(AgentView)[0].state == "gone":
            break
    else:
        raise AssertionError("web was not told the state it missed")


# P63
def test_without_credit_the_agent_is_held_back_and_no_line_is_lost(started):
    pool = started(credit=0)
    agent = pool.agent()
    offer(pool)
    agent.hear("job.dispatch")
    agent.job("job.status", state="running")
    pool.peer.hear(JobProgressed)
    n_chunks = 100

    def write():
        for number in range(n_chunks):
            agent.job("log.chunk", stepIndex=0, lines=[str(number), "x" * 2**20])
        agent.job("job.status", state="success")
        agent.say("agent.status", messageId="m", agentId="a1", activeJobs=0)

    writer = threading.Thread(target=write)
    writer.start()
    writer.join(1.0)
    assert writer.is_alive()
    assert resident_mib(pool.process.pid) < 150
    pool.peer.tell(LogCredit(n_bytes=2**30))
    seen = []
    while len(seen) < n_chunks:
        first = json.loads(pool.peer.hear(JobLogged)[0].frame)["lines"][0]["text"]
        if len(first) < 10:
            seen.append(first)
    assert seen == [str(number) for number in range(n_chunks)]
    assert pool.peer.hear(JobFinished)[0].state == "success"
    writer.join(5.0)
    agent.close()


def resident_mib(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def test_data_directory_that_cannot_be_used_is_said_and_not_tried_again(started):
    pool = started(fails=True, data_dir="/proc/nowhere")
    failed = pool.supervisor.hear(ChildFailed)[0]
    assert failed.configuration
    assert "/proc/nowhere" in failed.reason
    assert pool.process.wait(5) == 3


def test_a_bug_in_the_core_ends_the_process_when_an_agent_brings_it_to_light(started):
    pool = started(prelude=TORN_CORE)
    with pytest.raises(ConnectionClosed):
        Agent(pool, "a1", ("linux",), {})
    assert pool.process.wait(10) == 1
