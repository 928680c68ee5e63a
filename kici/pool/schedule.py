"""Who gets the next job (agent spec 5.2, A40, A50). Pure choices, no state."""

from collections.abc import Iterable

from kici.contracts.states import JobState
from kici.pool.agents import Agent, Registry
from kici.pool.jobs import Job


def pick_agent(job: Job, agents: Registry, now: float) -> Agent | None:
    """The agent that shall run ``job`` now: the one that was launched for it, else the lowest
    id, or the first when it may be any.

    A warm agent does not get a job that wants another image or other resources (S87). The
    first that fits is taken: with 200 agents, asking all of them was most of a job's cost.
    """
    assert job.spec is not None
    if job.state is JobState.STARTING:
        own = next((agent for agent in agents if agent.bound == job.key), None)
        if own is not None and _can_take(job, own, now):
            return own
    order = iter(agents) if job.spec.need.pick_any else agents.by_id()
    return next((agent for agent in order if _can_take(job, agent, now)), None)


def _can_take(job: Job, agent: Agent, now: float) -> bool:
    assert job.spec is not None
    return (
        agent.free(now)
        and not _promised(job, agent)
        and fits(job, agent)
        and agent.matches(job.spec.need)
    )


def _promised(job: Job, agent: Agent) -> bool:
    """``agent`` was launched for another job that still waits for it (S69)."""
    return agent.bound is not None and agent.bound != job.key


def fits(job: Job, agent: Agent) -> bool:
    """Whether image and resources of a launched agent are what the job declares."""
    assert job.spec is not None
    if agent.scaler is None or agent.bound == job.key:
        return True
    if job.spec.image is not None and job.spec.image != agent.image:
        return False
    wanted = job.spec.resources
    declared = wanted.requests or wanted.limits if wanted is not None else None
    return declared is None or (
        (not declared.cpus or declared.cpus == agent.requests.cpus)
        and (not declared.memory_bytes or declared.memory_bytes == agent.requests.memory_bytes)
    )


def could_serve(job: Job, agents: Iterable[Agent]) -> bool:
    """Whether some connected agent, busy or idle, will be able to take the job."""
    assert job.spec is not None
    need = job.spec.need
    return any(
        agent.connection_id is not None
        and not agent.draining
        and not (agent.scaler is not None and agent.used)
        and agent.matches(need)
        for agent in agents
    )
