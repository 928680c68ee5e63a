"""Agents register and get lost (agent spec 1.8, 4.3, scaler spec 2.9, 2.10)."""

from kici.config.model import ResourceSpec
from kici.contracts.states import AgentState, JobState
from kici.contracts.wire.agent.session import RegisterAck
from kici.errors import RemoteError
from kici.pool import progress
from kici.pool.actions import AnswerRegister
from kici.pool.adoption import reconcile
from kici.pool.agents import Agent
from kici.pool.board import Board
from kici.pool.events import AgentRegistered
from kici.pool.jobs import Job
from kici.pool.progress import scaler_event
from kici.pool.scaling import Target, gate_of
from kici.pool.staff import let_go, settle, vanish
from kici.pool.supply import resources_for
from kici.protocol.labels import canonical_set

#: How long the jobs of a lost static agent wait for it (A76).
STATIC_RETURN_S = 120.0
#: The same for an agent of a scaler: its process is watched, so its end is known at once;
#: this is for a network blip, one and a half times the longest reconnect pause of 60 s
#: would be safe, its first ten attempts fit.
SCALER_RETURN_S = 60.0
#: After its end was seen, what its socket still holds is read for this long.
LAST_WORDS_S = 2.0

CLOSE_REFUSED = 4003
_SCALER_LABEL = "kici:scaler:"


def registered(board: Board, event: AgentRegistered, now: float) -> None:
    """Answer a register, then settle what the agent runs."""
    register = event.register
    agent = board.agents.get(register.agent_id)
    if agent is not None and agent.state is AgentState.STOPPING:
        error = RemoteError(CLOSE_REFUSED, "Agent is being stopped")
        board.do(AnswerRegister(event.connection_id, error))
        return
    if agent is None:
        agent = _stranger(board, event, now)
    board.agents.connect(agent, event.connection_id)
    _describe(board, agent, event)
    if agent.state in (AgentState.REQUESTED, AgentState.STARTING):
        board.agents.move(agent, AgentState.IDLE)
        agent.since, agent.since_wall = now, board.wall()
    agent.deadline = None
    agent.reason = ""
    agent.unheard = False
    bound = _bound_job(board, agent)
    ack = RegisterAck(
        agent_id=register.agent_id,
        labels=register.labels,
        scaler_managed=agent.scaler is not None,
        pending_dispatch=True if bound is not None else None,
        warm_pool=True if agent.scaler is not None and bound is None else None,
    )
    board.do(AnswerRegister(event.connection_id, ack))
    board.note("info", "Agent registered", agent=agent, scaler=agent.scaler or "")
    if agent.scaler is not None:
        if not agent.warm:  # a warm one proves itself with its first job
            board.scaling.succeeded((agent.scaler, agent.label_set))
        if bound is not None:
            scaler_event(board, bound, agent, "agent.connecting", "agent registered")
    in_flight = register.in_flight_jobs or ()
    if bound is None and agent.found_for[1] is not None:
        agent.used = True
    reconcile(board, agent, [(one.run_id, one.job_id) for one in in_flight], now)


def _stranger(board: Board, event: AgentRegistered, now: float) -> Agent:
    """An agent that nobody here launched: a static one, or ours from before a restart."""
    scaler = None
    if event.grant is None or event.grant.kind == "ephemeral":
        names = [
            label[len(_SCALER_LABEL) :]
            for label in event.register.labels
            if label.startswith(_SCALER_LABEL)
        ]
        known = board.scaling.scaler(names[0]) if names else None
        scaler = known.name if known is not None else None
    agent = Agent(
        agent_id=event.register.agent_id,
        state=AgentState.IDLE,
        since=now,
        since_wall=board.wall(),
        scaler=scaler,
        # What it did before the restart is unknown: single use means no other job.
        used=scaler is not None,
    )
    board.agents.add(agent)
    return agent


def _describe(board: Board, agent: Agent, event: AgentRegistered) -> None:
    register, grant = event.register, event.grant
    agent.labels = register.labels
    agent.canonical = canonical_set(register.labels)
    agent.max_concurrency = max(1, register.max_concurrency or 1)
    agent.platform = register.platform or "linux"
    agent.arch = register.arch or "x64"
    agent.version, agent.hostname = register.version, register.hostname
    agent.draining = False
    agent.rest_until = 0.0
    target = _target(board, agent)
    if target is not None:
        agent.label_set = target.index
        agent.gate = gate_of(target)
        if agent.requests == ResourceSpec():
            # It came before its backend told of it: what it takes counts all the same.
            agent.requests, _ = resources_for(board, target, None)
    elif grant is not None:
        agent.gate = canonical_set(grant.mandatory_labels)


def _target(board: Board, agent: Agent) -> Target | None:
    """The label set it was made for; after a restart the first one that its labels hold."""
    target = board.scaling.target(agent.scaler, agent.label_set)
    if target is not None:
        return target
    for one in board.scaling.targets():
        if one.scaler.name == agent.scaler and canonical_set(one.label_set.labels) <= (
            agent.canonical
        ):
            return one
    return None


def _bound_job(board: Board, agent: Agent) -> Job | None:
    """The waiting job it was launched for, if it can take it (A16, S69)."""
    job = board.jobs.get(agent.bound) if agent.bound is not None else None
    fits = (
        job is not None
        and job.state in (JobState.QUEUED, JobState.STARTING)
        and job.spec is not None
        and agent.matches(job.spec.need)
    )
    if not fits:
        agent.bound = None
        if job is not None and job.state is JobState.STARTING:
            board.note("warning", "Launched agent does not match its job", job=job, agent=agent)
            job.n_launches_failed += 1
            board.move_job(job, JobState.QUEUED, job.queue_until)
        return None
    return job


def lost(board: Board, connection_id: str, reason: str, now: float) -> None:
    """A socket is gone; late news of a superseded one finds nobody."""
    agent = board.agents.at(connection_id)
    if agent is not None:
        cut_off(board, agent, reason, now)


def cut_off(board: Board, agent: Agent, reason: str, now: float) -> None:
    """The agent has no connection any more: what it did not start is taken back, what runs
    waits for its return."""
    board.agents.disconnect(agent)
    board.note("info", "Agent connection lost", agent=agent, reason=reason)
    exited = agent.reason.startswith("exited")
    if agent.state is AgentState.STOPPING and not exited:
        board.agent_changed(agent)
        return
    if exited:
        ended(board, agent, agent.reason, now)
        return
    agent.strangers.clear()
    static = agent.scaler is None
    window = STATIC_RETURN_S if static else SCALER_RETURN_S
    for key in sorted(agent.jobs):
        job = board.jobs.get(key)
        if job is not None and (job.started or (static and job.state is JobState.ACKNOWLEDGED)):
            board.move_job(job, JobState.RECOVERING, now + window)
        elif job is not None:
            progress.requeue(board, job, "agent lost before the job started", now)
    _free_held(board, agent, now)
    settle(board, agent, now)
    if not agent.jobs and agent.state is not AgentState.STOPPING:
        let_go(board, agent, now, reason)


def ended(board: Board, agent: Agent, reason: str, now: float) -> None:
    """Its process or container is gone for good: so are its jobs."""
    for key in sorted(agent.jobs):
        job = board.jobs.get(key)
        if job is None:
            continue
        if job.started or job.state is JobState.RECOVERING:
            outcome = "cancelled" if job.cancel_reason is not None else "failed"
            progress.finish(board, job, outcome, now, error=f"{progress.AGENT_LOST} ({reason})")
        else:
            progress.requeue(board, job, "agent ended before the job started", now)
    agent.jobs.clear()
    _free_held(board, agent, now)
    if board.agents.get(agent.agent_id) is agent and agent.state is not AgentState.GONE:
        vanish(board, agent, reason)


def _free_held(board: Board, agent: Agent, now: float) -> None:
    """No late log can come any more."""
    for job in board.jobs:
        if job.held_until is not None and job.agent_id == agent.agent_id:
            progress.release(board, job, now)
