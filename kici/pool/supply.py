"""Jobs get agents: placing, launching, warm pools."""

from typing import Any

from kici.config.model import ResourceSpec
from kici.contracts.states import AgentState, JobState
from kici.pool import progress
from kici.pool.actions import LaunchAgent
from kici.pool.agents import Agent
from kici.pool.board import Board
from kici.pool.jobs import Job
from kici.pool.resources import resolve
from kici.pool.scaling import ON_THE_WAY, Target
from kici.pool.schedule import could_serve, fits, pick_agent

REMOVED = "no agent can take this job any more: the scaler it waited for was removed"


def place(board: Board, now: float) -> None:
    """Give every waiting job an agent, or start one for it; then fill the warm pools."""
    waiting = board.jobs.waiting()
    is_starting = any(job.state is JobState.STARTING for job in waiting)
    bound = {agent.bound for agent in board.agents} if is_starting else set()
    for job in waiting:
        if job.state is JobState.STARTING and job.key not in bound:
            # Its agent was stopped for another reason.
            board.move_job(job, JobState.QUEUED, job.queue_until)
        agent = pick_agent(job, board.agents, now)
        if agent is not None:
            progress.dispatch(board, job, agent, now)
        elif job.state is JobState.QUEUED:
            _start_for(board, job, now)
    if not board.draining and not board.stopping:
        _fill_warm_pools(board, now)
        _probe(board, now)


def _start_for(board: Board, job: Job, now: float) -> None:
    assert job.spec is not None
    target = target_for(board, job, now)
    if board.stopping:
        return
    if target is None:
        _abandon(board, job, now)
        return
    job.matched = True
    agent = _on_the_way(board, job, target) or _launch(board, target, job, now)
    if agent is None:
        return
    agent.bound = job.key
    job.scaler_name = agent.scaler
    job.launch_until = job.launch_until or now + board.settings.spawn_timeout_s
    board.move_job(job, JobState.STARTING, job.queue_until)


def target_for(board: Board, job: Job, now: float) -> Target | None:
    """The label set whose agent ``job`` shall get. The best match, and where spilling over is
    allowed the next best that can start one or has one on its way."""
    assert job.spec is not None
    if not board.settings.spill_over:
        return board.scaling.match(job.spec.need)

    def usable(target: Target) -> bool:
        requests, _limits = resources_for(board, target, job)
        free = not board.scaling.obstacle(target, requests, now)
        return free or _on_the_way(board, job, target) is not None

    return board.scaling.best(job.spec.need, usable)


def _abandon(board: Board, job: Job, now: float) -> None:
    """What it waited for was removed by a reload: say so now, not when its time is over. A job
    that only agents started by hand could ever take waits for one to come back."""
    if job.matched and not could_serve(job, board.agents):
        progress.finish(board, job, "failed", now, error=REMOVED)


def _on_the_way(board: Board, job: Job, target: Target) -> Agent | None:
    """An agent that was started for a job which no longer needs it, or for a warm pool."""
    for agent in board.agents:
        if agent.state not in ON_THE_WAY or agent.bound is not None:
            continue
        made_for_it = agent.found_for == (job.key.run_id, job.key.job_id)
        # One that has not said yet what it runs may be busy.
        free = agent.found_for[1] is None and not agent.unheard
        alike = free and (agent.scaler, agent.label_set) == target.key and fits(job, agent)
        if made_for_it or alike:
            return agent
    return None


def _probe(board: Board, now: float) -> None:
    """Try each quarantined label set with an agent of its own, after its pause: no job is put
    at risk, and without one nobody would ever learn that the trouble is over."""
    for target in board.scaling.quarantined():
        if not board.scaling.retry_at(target, now) > now:
            _launch(board, target, None, now, warm=False)


def _launch(
    board: Board, target: Target, job: Job | None, now: float, *, warm: bool = True
) -> Agent | None:
    requests, limits = resources_for(board, target, job)
    if board.guards.reason or board.scaling.obstacle(target, requests, now):
        return None
    image = job.spec.image if job is not None and job.spec is not None else None
    agent = Agent(
        agent_id=f"scaler-{target.scaler.type}-{board.new_id()[:8]}",
        state=AgentState.REQUESTED,
        since=now,
        since_wall=board.wall(),
        deadline=now + board.settings.spawn_timeout_s,
        scaler=target.scaler.name,
        label_set=target.index,
        labels=target.label_set.labels,
        requests=requests,
        image=image or target.label_set.image,
        warm=job is None and warm,
    )
    board.agents.add(agent)
    board.agent_changed(agent)
    board.do(
        LaunchAgent(
            agent_id=agent.agent_id,
            scaler=target.scaler.name,
            label_set=target.index,
            requests=requests,
            limits=limits,
            run_id=job.key.run_id if job is not None else None,
            job_id=job.key.job_id if job is not None else None,
            image=image,
            registry_auth=_login(job) if image else None,
        )
    )
    board.note("info", "Starting agent", agent=agent, scaler=agent.scaler, job=job)
    return agent


def _login(job: Job | None) -> dict[str, Any] | None:
    """The job's own login for its image; another image is pulled without."""
    fields = job.spec.fields if job is not None and job.spec is not None else None
    auth = (fields or {}).get("container_registry_auth")
    return auth if isinstance(auth, dict) else None


def resources_for(
    board: Board, target: Target, job: Job | None
) -> tuple[ResourceSpec, ResourceSpec]:
    """Requests and limits of an agent (scaler spec 2.5)."""
    declared = job.spec.resources if job is not None and job.spec is not None else None
    return resolve(declared, target.label_set.resources, board.scaling.config.default_resources)


def _fill_warm_pools(board: Board, now: float) -> None:
    """Scaler spec 7.2: size minus ready minus on their way, as far as the caps allow."""
    for target in board.scaling.targets():
        pool = target.scaler.warm_pool
        if not pool.enabled or target.scaler.unsupported is not None:
            continue
        for _ in range(pool.size - n_warm(board, target)):
            if _launch(board, target, None, now) is None:
                break
            board.counts.warm_spawns[target.scaler.name] += 1


def n_warm(board: Board, target: Target) -> int:
    return len(warm_agents(board, target))


def warm_agents(board: Board, target: Target) -> list[Agent]:
    """Unused, unbound agents of a label set, ready or on their way."""
    return [
        agent
        for agent in board.agents
        if (agent.scaler, agent.label_set) == target.key
        and not agent.used
        and agent.bound is None
        and agent.found_for[1] is None
        and agent.state in (*ON_THE_WAY, AgentState.IDLE)
    ]
