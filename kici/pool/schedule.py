"""Who gets the next job (agent spec 5.2, A40, A50). Pure choices, no state."""

from collections.abc import Iterable

from kici.pool.agents import Agent
from kici.pool.jobs import Job


def pick_agent(job: Job, agents: Iterable[Agent], now: float) -> Agent | None:
    """The agent that shall run ``job`` now: the lowest id, or the first when it may be any.

    A warm agent does not get a job that wants another image or other resources (S87).
    """
    assert job.spec is not None
    need = job.spec.need
    free = [
        agent
        for agent in agents
        if agent.free(now)
        and fits(job, agent)
        and agent.matches(need)
        and not _promised(job, agent)
    ]
    if not free:
        return None
    own = next((agent for agent in free if agent.bound == job.key), None)
    if own is not None:
        return own
    return free[0] if need.pick_any else min(free, key=lambda agent: agent.agent_id)


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
