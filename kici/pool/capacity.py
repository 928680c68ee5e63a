"""What the pool publishes: capacity, agents, jobs (peer spec 4.4)."""

import re

from kici.contracts.link.views import (
    AgentSlot,
    AgentView,
    JobView,
    PoolCapacity,
    ScalerSlots,
    WarmSlots,
)
from kici.contracts.states import AgentState, JobState
from kici.pool.admission import DRAINING, FULL
from kici.pool.agents import Agent
from kici.pool.board import Board
from kici.pool.jobs import Job
from kici.pool.scaling import Target, gate_of
from kici.pool.supply import warm_agents
from kici.protocol.labels import canonical_set

#: Changes of capacity are told together, at most this often.
CAPACITY_EVERY_S = 0.1

_USER_INFO = re.compile(r"(?<=://)[^/@\s]*@")


def capacity(board: Board) -> PoolCapacity:
    """What heartbeats say: connected agents and one element per usable backend."""
    jobs = list(board.jobs)
    return PoolCapacity(
        rev=board.next_rev(),
        agents=tuple(_slot(agent) for agent in board.agents if _serves(agent)),
        scalers=tuple(_scaler_slots(board)),
        n_active_jobs=sum(
            job.state not in (JobState.QUEUED, JobState.STARTING, JobState.FINISHED) for job in jobs
        ),
        n_queued_jobs=sum(job.state is JobState.QUEUED for job in jobs),
        n_starting_jobs=sum(job.state is JobState.STARTING for job in jobs),
        refusing=_refusing(board),
        guards=board.guards.names,
    )


def _serves(agent: Agent) -> bool:
    return agent.connection_id is not None and agent.state is not AgentState.STOPPING


def _refusing(board: Board) -> str:
    if board.draining or board.stopping:
        return DRAINING
    if board.guards.reason:
        return board.guards.reason
    return FULL if len(board.jobs.waiting()) >= board.settings.queue_limit else ""


def _slot(agent: Agent) -> AgentSlot:
    # A used single-use agent takes no other job: a coordinator must see it as full.
    spent = agent.scaler is not None and agent.used
    return AgentSlot(
        agent_id=agent.agent_id,
        labels=agent.labels,
        active_jobs=agent.max_concurrency if spent else agent.active,
        max_concurrency=agent.max_concurrency,
        platform=agent.platform,
        arch=agent.arch,
        mandatory_labels=tuple(sorted(agent.gate)),
        scaler_name=agent.scaler,
    )


def _scaler_slots(board: Board) -> list[ScalerSlots]:
    slots = []
    for scaler in board.scaling.config.scalers:
        targets = [one for one in board.scaling.targets() if one.scaler.name == scaler.name]
        mine = board.agents.of_scaler(scaler.name)
        problems = [reason for one in targets if (reason := board.scaling.broken(one))]
        slots.append(
            ScalerSlots(
                name=scaler.name,
                kind=scaler.type,
                label_sets=tuple(one.label_set.enriched for one in targets),
                gates=tuple(tuple(sorted(gate_of(one))) for one in targets),
                max_agents=scaler.max_agents,
                active_count=len(mine),
                spawns_on_local_host=not (scaler.type == "container" and scaler.host),
                healthy=len(problems) < len(targets) or not targets,
                reason=problems[0] if problems else "",
                cpus_used=sum(agent.requests.cpus for agent in mine),
                memory_used_bytes=sum(agent.requests.memory_bytes for agent in mine),
                warm=tuple(_warm(board, one) for one in targets if scaler.warm_pool.enabled),
            )
        )
    return slots


def _warm(board: Board, target: Target) -> WarmSlots:
    spare = warm_agents(board, target)
    ready = sum(agent.state is AgentState.IDLE for agent in spare)
    return WarmSlots(
        label_set=",".join(sorted(canonical_set(target.label_set.labels))),
        target=target.scaler.warm_pool.size,
        ready=ready,
        in_flight=len(spare) - ready,
    )


def agent_view(board: Board, agent: Agent) -> AgentView:
    return AgentView(
        rev=board.next_rev(),
        agent_id=agent.agent_id,
        state=agent.state,
        since=agent.since_wall,
        scaler_name=agent.scaler,
        labels=agent.labels,
        active_jobs=agent.active,
        max_concurrency=agent.max_concurrency,
        version=agent.version,
        hostname=agent.hostname,
        reason=agent.reason,
    )


def job_view(board: Board, job: Job, now: float) -> JobView:
    spec = job.spec
    waits = job.state in (JobState.QUEUED, JobState.STARTING) and job.queue_until is not None
    return JobView(
        rev=board.next_rev(),
        key=job.key,
        job_name=spec.job_name if spec else "",
        workflow_name=spec.workflow_name if spec else "",
        repo_url=_USER_INFO.sub("", spec.repo_url) if spec else "",
        ref=spec.ref if spec else "",
        sha=spec.sha if spec else "",
        request_id=spec.request_id if spec else None,
        state=job.state,
        outcome=job.outcome,
        error=job.error,
        agent_id=job.agent_id,
        scaler_name=job.scaler_name,
        attempt=job.attempt,
        accepted_at=job.accepted_wall,
        queue_deadline_at=board.wall() + (job.queue_until or 0.0) - now if waits else None,
        started_at=job.started_wall,
        completed_at=job.completed_wall,
        steps=tuple(job.steps[index] for index in sorted(job.steps)),
        n_log_lines=job.n_log_lines,
        labels=spec.labels if spec else (),
    )
