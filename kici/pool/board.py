"""What all parts of the core share: the tables, the flags, the actions being collected."""

from collections.abc import Callable
from typing import Any

from kici.config.model import Config
from kici.contracts.link import JobKey, Message
from kici.contracts.link.jobs import JobCancel
from kici.contracts.states import JobState
from kici.pool.agents import Agent, Registry
from kici.pool.counts import Counts
from kici.pool.guards import Guards, limits_of
from kici.pool.jobs import Job, JobTable
from kici.pool.outflow import Outflow
from kici.pool.scaling import Scaling
from kici.protocol.machine import Action, Actions, Note, Tell
from kici.protocol.remembered import Remembered


class Board:
    """Owns: the job table, the agent registry, the drain flag. Told by: the core.

    ``wall`` gives wall-clock seconds for messages; ``new_id`` gives unique hex names of at
    least 8 digits. ``outsiders``: agents that no backend knows of may come (static tokens).
    ``changed`` says that a job may now be placed.
    """

    def __init__(
        self,
        config: Config,
        *,
        wall: Callable[[], float],
        new_id: Callable[[], str],
        outsiders: bool = True,
        boot_id: str = "",
    ) -> None:
        self.boot_id = boot_id
        self.settings = config.settings
        self.wall = wall
        self.new_id = new_id
        self.jobs = JobTable()
        self.agents = Registry()
        self.scaling = Scaling(config.scalers, self.agents)
        self.guards = Guards(limits_of(config.settings))
        self.counts = Counts()
        self.actions: Actions = []
        self.outflow = Outflow(lambda message: self.tell("peer", message))
        self.draining = False
        self.stopping = False
        self.handing_over = False
        self.drained_told = False
        #: Which drain is answered, and when its progress was last logged.
        self.drain_rev = 0
        self.drain_said_at: float | None = None
        self.outbox_seen = False
        self.early_cancels: list[JobCancel] = []
        #: Moment of the start; until the open records come, unknown jobs are left alone.
        self.began_at: float | None = None
        self.outsiders = outsiders
        #: Open records that no agent has claimed, and since when none can any more.
        self.unclaimed: set[JobKey] = set()
        self.orphaned_at: float | None = None
        #: Jobs that were stored as ended: an older ``outbox.state`` still on its way cannot
        #: bring them back to life.
        self.recent = Remembered()
        self.watched: frozenset[str] = frozenset()
        self.changed = False
        self.dirty_jobs: dict[JobKey, Job] = {}
        self.dirty_agents: dict[str, Agent] = {}
        self.capacity_dirty = True
        self.rev = 0

    def do(self, action: Action) -> None:
        self.actions.append(action)

    def tell(self, to: str, message: Message) -> None:
        self.actions.append(Tell(to, message))

    def next_rev(self) -> int:
        self.rev += 1
        return self.rev

    def note(
        self,
        level: str,
        message: str,
        *,
        job: Job | None = None,
        agent: Agent | None = None,
        **fields: Any,
    ) -> None:
        """One log line with the fields that every line about a job or an agent has."""
        if job is not None:
            fields |= {"runId": job.key.run_id, "jobId": job.key.job_id}
            if job.spec is not None and job.spec.request_id:
                fields["requestId"] = job.spec.request_id
            if job.agent_id is not None:
                fields["agentId"] = job.agent_id
        if agent is not None:
            fields["agentId"] = agent.agent_id
        self.actions.append(Note(level, message, fields))

    def job_changed(self, job: Job) -> None:
        self.dirty_jobs[job.key] = job
        self.capacity_dirty = True
        self.changed = True

    def agent_changed(self, agent: Agent) -> None:
        self.dirty_agents[agent.agent_id] = agent
        self.capacity_dirty = True
        self.changed = True

    def move_job(self, job: Job, state: JobState, deadline: float | None = None) -> None:
        self.jobs.move(job, state)
        job.deadline = deadline
        self.job_changed(job)
