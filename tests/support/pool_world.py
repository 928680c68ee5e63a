"""A pool core with a virtual clock, and the other ends of its seams played by hand."""

import itertools
import json
from collections import Counter

import msgspec

from kici.config.model import Config, LabelSet, Scaler, ScalerConfig, Settings
from kici.contracts.link import JobKey
from kici.contracts.link.jobs import (
    JobAccepted,
    JobCancel,
    JobDeclined,
    JobFinished,
    JobLogged,
    JobOffered,
    JobProgressed,
    JobStored,
    LogCredit,
    OpenJob,
    OutboxState,
    ScalerReported,
)
from kici.contracts.wire.agent.jobs import (
    JobAck,
    JobDispatch,
    JobReject,
    JobStatus,
    LogChunk,
    StepStatus,
)
from kici.contracts.wire.agent.jobs import JobCancel as CancelAtAgent
from kici.contracts.wire.agent.session import AgentRegister, AgentStatus, InFlightJob
from kici.pool.actions import (
    AnswerRegister,
    CloseAgent,
    LaunchAgent,
    ReapAgent,
    SendAgent,
)
from kici.pool.core import PoolCore
from kici.pool.events import AgentLost, AgentRegistered, AgentSaid, BackendReported, Tick
from kici.pool.scalers.base import BackendEvent, EventKind
from kici.protocol.machine import Note, Tell
from tests.support import offers

OWNER = "ws://coordinator:4000"
WALL = 1_700_000_000.0


def label_set(*labels, **more):
    return LabelSet(labels=labels, enriched=(*labels, "kici:agent:fake"), **more)


def scaler(name="s1", *sets, max_agents=2, **more):
    return Scaler(
        name=name,
        type="fake",
        max_agents=max_agents,
        label_sets=sets or (label_set("linux"),),
        **more,
    )


def config(*scalers, settings=None, **more):
    return Config(
        settings=Settings(
            role="worker",
            coordinator_urls=(OWNER,),
            credential_file="/nonexistent",
            instance_id="worker-1",
            data_dir="/nonexistent",
            runtime_dir="/nonexistent",
            **(settings or {}),
        ),
        scalers=ScalerConfig(scalers=scalers, **more),
    )


def key(job="j1", run="r1", owner=OWNER):
    return JobKey(owner=owner, run_id=run, job_id=job)


def reroute(job="j1", run="r1", labels=("linux",), *, drop=(), **more):
    ours = {
        "runsOnLabels": [list(labels)],
        "triedConnections": ["coord-1"],
        "coordinatorId": "coord-1",
        "requestId": "req-1",
        "jobConfig": {"name": "build", "secrets": {"TOKEN": "s3cr3t"}},
        "repoUrl": "https://example.org/shop.git",
        "ref": "main",
        "sha": "4f0c",
    }
    message = offers.reroute(job, run, **(ours | more))
    return json.dumps({k: v for k, v in message.items() if k not in drop}).encode()


class World:
    """Drives one core; everything it asked for is remembered by kind."""

    def __init__(self, *scalers, credit=2**40, outbox=True, start=True, outsiders=True, **more):
        self.now = 1000.0
        numbers = itertools.count(1)
        self.core = PoolCore(
            config(*scalers, **more),
            wall=lambda: WALL + self.now,
            new_id=lambda: f"{next(numbers):08x}-id",
            outsiders=outsiders,
        )
        self.actions = []
        self.launched, self.reaped, self.sent, self.closed = [], [], [], []
        self.told = {"peer": [], "web": [], "supervisor": []}
        self.notes = []
        if start:
            self._take(self.core.start(self.now))
        if credit:
            self.do(LogCredit(n_bytes=credit))
        if outbox:
            self.outbox()

    def do(self, event):
        return self._take(self.core.handle(event, self.now))

    def _take(self, actions):
        for action in actions:
            match action:
                case Tell(to, message):
                    self.told[to].append(message)
                case LaunchAgent():
                    self.launched.append(action)
                case ReapAgent():
                    self.reaped.append(action)
                case SendAgent():
                    self.sent.append(action)
                case CloseAgent():
                    self.closed.append(action)
                case Note():
                    self.notes.append(action)
        self.actions += actions
        return actions

    def wait(self, seconds):
        """Let virtual time pass, with a tick at each deadline on the way."""
        end = self.now + seconds
        for _ in range(100_000):
            deadline = self.core.deadline
            if deadline is None or deadline > end:
                break
            self.now = max(self.now, deadline)
            self.do(Tick())
        else:
            raise AssertionError("the core's deadline does not move on")
        self.now = end
        return self.do(Tick())

    # --- peer ---

    def offer(self, job="j1", run="r1", labels=("linux",), owner=OWNER, again=False, **more):
        return self.do(
            JobOffered(
                key=key(job, run, owner),
                message_id=f"offer-{job}",
                reroute=reroute(job, run, labels, **more),
                again=again,
            )
        )

    def cancel(self, job="j1", run="r1", reason="by alice", owner=OWNER, **more):
        return self.do(JobCancel(owner=owner, run_id=run, job_id=job, reason=reason, **more))

    def store(self, job="j1", run="r1", owner=OWNER):
        return self.do(JobStored(key=key(job, run, owner)))

    def outbox(self, *keys):
        rows = tuple(OpenJob(key=one, accepted_at=WALL) for one in keys)
        return self.do(OutboxState(rev=1, open=rows, n_concluded=0, n_bytes=0, oldest_at=None))

    # --- agents ---

    def register(self, agent="a1", labels=("linux",), connection=None, jobs=(), grant=None, **more):
        in_flight = tuple(InFlightJob(job_id=job, run_id=run) for run, job in jobs) or None
        message = AgentRegister(
            message_id="m", agent_id=agent, labels=labels, in_flight_jobs=in_flight, **more
        )
        actions = self.do(AgentRegistered(connection or f"c-{agent}", message, grant))
        return next(one.answer for one in actions if isinstance(one, AnswerRegister))

    def say(self, agent, message, connection=None):
        return self.do(AgentSaid(connection or f"c-{agent}", message))

    def ack(self, agent="a1", job="j1", run="r1"):
        self.say(agent, JobAck(message_id="m", run_id=run, job_id=job, timestamp=1))

    def reject(self, agent="a1", job="j1", run="r1", reason="busy"):
        self.say(
            agent,
            JobReject(message_id="m", run_id=run, job_id=job, timestamp=1, reason=reason),
        )

    def status(self, state, agent="a1", job="j1", run="r1", **more):
        self.say(
            agent,
            JobStatus(message_id="m", run_id=run, job_id=job, state=state, timestamp=5, **more),
        )

    def step(self, state, agent="a1", job="j1", run="r1", **more):
        message = StepStatus(
            message_id="m",
            run_id=run,
            job_id=job,
            step_index=0,
            step_name="unit",
            state=state,
            timestamp=6,
            **more,
        )
        self.say(agent, message)

    def log(self, *lines, agent="a1", job="j1", run="r1", step=0, **more):
        message = LogChunk(
            message_id="m",
            run_id=run,
            job_id=job,
            step_index=step,
            lines=lines,
            timestamp=7,
            **more,
        )
        self.say(agent, message)

    def free(self, agent="a1", active=0):
        self.say(agent, AgentStatus(message_id="m", agent_id=agent, active_jobs=active))

    def lose(self, agent="a1", connection=None):
        self.do(AgentLost(connection or f"c-{agent}", "1006"))

    def run(self, agent="a1", job="j1", run="r1"):
        self.ack(agent, job, run)
        self.status("running", agent, job, run)

    def end(self, state="success", agent="a1", job="j1", run="r1"):
        self.status(state, agent, job, run)
        self.free(agent)

    # --- backend ---

    def backend(self, agent, kind, detail=""):
        self.do(BackendReported(BackendEvent(agent_id=agent, kind=EventKind(kind), detail=detail)))

    def arrive(self, number=-1, labels=("linux", "kici:agent:fake")):
        """The launched agent starts and registers; its id."""
        agent = self.launched[number].agent_id
        self.backend(agent, "started")
        self.register(agent, labels)
        return agent

    # --- what came out ---

    def answers(self):
        return [one for one in self.told["peer"] if isinstance(one, JobAccepted | JobDeclined)]

    def finished(self, job=None):
        return [
            one
            for one in self.told["peer"]
            if isinstance(one, JobFinished) and job in (None, one.key.job_id)
        ]

    def frames(self, kind=(JobProgressed, JobFinished, JobLogged, ScalerReported)):
        return [json.loads(one.frame) for one in self.told["peer"] if isinstance(one, kind)]

    def states(self, job="j1"):
        return [
            frame["state"]
            for frame in self.frames((JobProgressed, JobFinished))
            if frame["kind"] == "job" and frame["jobId"] == job
        ]

    def dispatches(self):
        return [
            (one.connection_id, one.message)
            for one in self.sent
            if isinstance(one.message, JobDispatch)
        ]

    def cancels(self):
        return [one.message for one in self.sent if isinstance(one.message, CancelAtAgent)]

    def error(self, job="j1"):
        return json.loads(self.finished(job)[-1].frame).get("data", {}).get("error")

    def job(self, job="j1", run="r1", owner=OWNER):
        return self.core.board.jobs.get(key(job, run, owner))

    def agent(self, agent="a1"):
        return self.core.board.agents.get(agent)

    def check(self):
        """What must hold at every moment."""
        board = self.core.board
        for agent in board.agents:
            assert agent.active <= max(agent.max_concurrency, len(agent.strangers))
        for one in board.scaling.config.scalers:
            assert len(board.agents.of_scaler(one.name)) <= one.max_agents
        n_held = Counter(job_key for agent in board.agents for job_key in agent.jobs)
        assert all(count == 1 for count in n_held.values())


def encoded(actions):
    """Every byte that left the core, to look for secrets."""
    return repr(actions) + msgspec.json.encode([repr(one) for one in actions]).decode()
