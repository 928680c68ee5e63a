"""Random histories: every accepted job ends in exactly one terminal report."""

import json

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kici.contracts.link.jobs import JobAccepted, JobFinished, JobLogged, LogCredit
from kici.contracts.link.lifecycle import DrainState
from kici.contracts.states import AgentState
from kici.pool.events import LedgerRefused, PeerBooted, SendFailed
from tests.support.pool_world import World, key, label_set, scaler

JOBS = [f"j{number}" for number in range(6)]
LABELS = ("linux", "kici:agent:fake")
STATES = ["running", "success", "failed", "cancelled", "cancelling", "skipped", "weird"]


class Promise(RuleBasedStateMachine):
    """Owns: a world, and what was accepted in it. Agents do whatever they like."""

    def __init__(self):
        super().__init__()
        self.world = World(
            scaler("s1", label_set("linux"), max_agents=2),
            settings={"queue_limit": 4, "queue_timeout_s": 600.0},
            credit=2000,
        )
        self.connections = 0
        self.accepted = set()
        self.ended = {}
        self.read = 0

    def agents(self):
        return [agent for agent in self.world.core.board.agents if agent.connection_id]

    @rule(job=st.sampled_from(JOBS), labels=st.sampled_from([("linux",), ("mac",), ()]))
    def offer(self, job, labels):
        if job not in self.ended:
            self.world.offer(job, labels=labels)

    @rule(size=st.integers(1, 2), data=st.data())
    def static_agent(self, size, data):
        agent = f"a{size}"
        held = self.world.agent(agent)
        jobs = sorted(held.jobs) if held else []
        listed = [one for one in jobs if data.draw(st.booleans())]
        self.register(agent, listed, max_concurrency=size)

    @rule(data=st.data())
    @precondition(lambda self: self.world.launched)
    def launched_agent(self, data):
        agent = data.draw(st.sampled_from(self.world.launched[-3:])).agent_id
        known = self.world.agent(agent)
        if known is not None:
            self.register(agent, sorted(known.jobs))

    def register(self, agent, jobs, **more):
        self.connections += 1
        self.world.register(
            agent,
            LABELS,
            connection=f"c{self.connections}",
            jobs=[(one.run_id, one.job_id) for one in jobs],
            **more,
        )

    @rule(data=st.data(), state=st.sampled_from(STATES), job=st.sampled_from(JOBS))
    @precondition(lambda self: self.agents())
    def report(self, data, state, job):
        agent = data.draw(st.sampled_from(self.agents()))
        if agent.jobs and data.draw(st.integers(0, 4)):
            job = data.draw(st.sampled_from(sorted(agent.jobs))).job_id
        self.talk(agent, lambda name: self.world.status(state, name, job))

    @rule(data=st.data(), what=st.sampled_from(["ack", "reject", "log", "free", "step"]))
    @precondition(lambda self: self.agents())
    def say(self, data, what):
        agent = data.draw(st.sampled_from(self.agents()))
        job = data.draw(st.sampled_from(JOBS))
        if agent.jobs:
            job = sorted(agent.jobs)[0].job_id
        calls = {
            "ack": lambda name: self.world.ack(name, job),
            "reject": lambda name: self.world.reject(name, job),
            "log": lambda name: self.world.log("x" * 300, agent=name, job=job),
            "free": self.world.free,
            "step": lambda name: self.world.step("success", name, job),
        }
        self.talk(agent, calls[what])

    def talk(self, agent, call):
        """World names connections after agents; here they have numbers."""
        original = self.world.say
        connection = agent.connection_id
        self.world.say = lambda name, message: original(name, message, connection)
        try:
            call(agent.agent_id)
        finally:
            del self.world.say

    @rule(data=st.data(), failed=st.booleans())
    @precondition(lambda self: self.agents())
    def lose(self, data, failed):
        agent = data.draw(st.sampled_from(self.agents()))
        if failed:
            self.world.do(SendFailed(agent.connection_id, None))
        else:
            self.world.lose(connection=agent.connection_id)

    @rule(data=st.data(), kind=st.sampled_from(["started", "failed", "exited"]))
    @precondition(lambda self: self.world.launched)
    def backend(self, data, kind):
        agent = data.draw(st.sampled_from(self.world.launched[-3:])).agent_id
        self.world.backend(agent, kind, "x")

    @rule()
    @precondition(lambda self: self.world.launched)
    def ledger(self):
        self.world.do(LedgerRefused(self.world.launched[-1].agent_id, "full"))

    @rule(job=st.sampled_from([*JOBS, None]), force=st.booleans())
    def cancel(self, job, force):
        self.world.cancel(job, force=force)

    @rule(job=st.sampled_from(JOBS))
    def store(self, job):
        if job in self.ended:
            self.world.store(job)

    @rule(draining=st.booleans())
    def drain(self, draining):
        self.world.do(DrainState(rev=1, draining=draining, stopping=False, reason="x"))

    @rule(credit=st.booleans())
    def peer_restarts(self, credit):
        self.world.do(PeerBooted())
        if credit:
            self.grant()

    @rule()
    def grant(self):
        self.world.do(LogCredit(n_bytes=1000))

    @rule(seconds=st.sampled_from([0.05, 1.0, 5.0, 11.0, 61.0, 130.0]))
    def wait(self, seconds):
        self.world.wait(seconds)

    @invariant()
    def promise_holds(self):
        self.world.check()
        for message in self.world.told["peer"][self.read :]:
            if isinstance(message, JobAccepted):
                self.accepted.add(message.key.job_id)
            elif isinstance(message, JobFinished):
                job = message.key.job_id
                assert job in self.accepted
                assert self.ended.setdefault(job, message.frame) == message.frame
            elif isinstance(message, JobLogged):
                assert message.key.job_id not in self.ended
            elif hasattr(message, "frame"):
                assert json.loads(message.frame)["jobId"] not in self.ended
        self.read = len(self.world.told["peer"])

    def teardown(self):
        """Whatever happened: after long enough every accepted job has ended."""
        for _ in range(3):
            self.grant()
            for agent in self.agents():
                self.world.lose(connection=agent.connection_id)
            self.world.wait(400)
        self.world.cancel(None)
        self.world.wait(700)
        for _ in range(200):
            self.grant()
        self.promise_holds()
        assert set(self.ended) >= self.accepted
        for job in JOBS:
            self.world.store(job)
        assert len(self.world.core.board.jobs) == 0
        left = [one for one in self.world.core.board.agents if one.state is AgentState.BUSY]
        assert not left
        assert not self.world.core.board.outflow.waits(key("j1"))


Promise.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
# A81 S63 P74
TestPromise = Promise.TestCase
