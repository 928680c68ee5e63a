"""Every deadline of the core, in one place."""

from kici.contracts.states import WAITING, AgentState, JobState
from kici.contracts.wire.agent.jobs import JobCancel
from kici.pool import progress
from kici.pool.actions import SendAgent
from kici.pool.adoption import OUTBOX_WAIT_S, claim_open
from kici.pool.agents import Agent
from kici.pool.arrival import cut_off, ended
from kici.pool.board import Board
from kici.pool.jobs import Job
from kici.pool.launches import launch_failed
from kici.pool.orphans import ORPHAN_AFTER_S, look_for_orphans
from kici.pool.scaling import ON_THE_WAY
from kici.pool.staff import close, let_go, stop, vanish
from kici.pool.supply import n_warm

#: Close code for an agent that does not answer (agent spec 1.10).
CLOSE_SILENT = 4031
#: A job that has reported nothing tells ``queued`` after this: any progress disarms the
#: coordinator's 90 s spawn window (peer spec 5.7), and ``queued`` is in every version's list.
ANNOUNCE_S = 60.0
#: Coordinators call a running job stale after 120 s without news.
KEEP_ALIVE_S = 90.0
DRAIN_SAID_EVERY_S = 1.0
#: A warm agent above its pool's size is looked at again after this.
_WARM_CHECK_S = 30.0


def expire(board: Board, now: float) -> None:
    """Act on whatever is due."""
    begun = board.began_at
    if not board.outbox_seen and begun is not None and now >= begun + OUTBOX_WAIT_S:
        claim_open(board, now)
    _say_drain(board, now)
    look_for_orphans(board, now)
    for job in board.jobs:
        if job.state is JobState.FINISHED:
            _finished_due(board, job, now)
            continue
        if not job.announced and job.accepted_at + ANNOUNCE_S <= now:
            progress.announce(board, job, "queued")
        if board.settings.job_keepalive and job.state is JobState.RUNNING:
            _keep_alive(board, job, now)
        elif job.deadline is not None and now >= job.deadline:
            _job_due(board, job, now)
    for agent in board.agents:
        if agent.deadline is not None and now >= agent.deadline:
            _agent_due(board, agent, now)


def deadlines(board: Board, now: float) -> list[float]:
    """Every moment at which ``expire`` or placing has something to do.

    Called for each event: plain loops, half the time of generators at 200 agents.
    """
    found = list(board.scaling.retries(now))
    add = found.append
    if not board.outbox_seen and board.began_at is not None:
        add(board.began_at + OUTBOX_WAIT_S)
    if board.orphaned_at is not None:
        add(board.orphaned_at + ORPHAN_AFTER_S)
    for job in board.jobs:
        if job.deadline is not None:
            add(job.deadline)
        if job.quiet_at is not None:
            add(job.quiet_at)
        if job.state is JobState.FINISHED:
            if job.resend_at is not None:
                add(job.resend_at)
            continue
        if job.alive_at is not None and job.state is JobState.RUNNING:
            add(job.alive_at)
        if not job.announced:
            add(job.accepted_at + ANNOUNCE_S)
    if board.drain_said_at is not None and len(board.jobs):
        add(board.drain_said_at + DRAIN_SAID_EVERY_S)
    for agent in board.agents:
        if agent.deadline is not None:
            add(agent.deadline)
        if agent.rest_until > now:
            add(agent.rest_until)
    return found


def _say_drain(board: Board, now: float) -> None:
    """While the worker stops: how many jobs it waits for (worker surface 4.4)."""
    said_at = board.drain_said_at
    if said_at is not None and len(board.jobs) and now >= said_at + DRAIN_SAID_EVERY_S:
        board.drain_said_at = now
        board.note("info", f"Draining: {len(board.jobs)} job(s) in flight")


def _keep_alive(board: Board, job: Job, now: float) -> None:
    """Off by default: ``running`` again keeps stale-job sweepers away. Only while the agent
    is known to be alive, and never after ``cancelling`` or an end (P74)."""
    agent = board.agents.get(job.agent_id)
    if agent is None or agent.connection_id is None:
        job.alive_at = None
    elif job.alive_at is None:
        job.alive_at = now + KEEP_ALIVE_S
    elif now >= job.alive_at:
        job.alive_at = now + KEEP_ALIVE_S
        progress.announce(board, job, "running")


def _finished_due(board: Board, job: Job, now: float) -> None:
    if job.quiet_at is not None:
        if now >= job.quiet_at:
            progress.release(board, job, now)
    elif job.resend_at is not None and now >= job.resend_at:
        resend(board, job, now)


def resend(board: Board, job: Job, now: float) -> None:
    """Tell a terminal report again, unless it still waits behind logs."""
    if job.finished is not None and not board.outflow.waits(job.key):
        board.outflow.say(job.key, job.finished)
    job.resend_at = now + progress.RESEND_S


def _job_due(board: Board, job: Job, now: float) -> None:
    if job.state in WAITING:
        limit = board.settings.queue_timeout_s
        error = f"no agent became available within {limit:g} s"
        progress.finish(board, job, "failed", now, error=error)
    elif job.state in (JobState.DISPATCHED, JobState.ACKNOWLEDGED):
        _undelivered(board, job, now)
    elif job.state is JobState.CANCELLING:
        _disobeyed(board, job, now)
    elif job.state is JobState.RECOVERING:
        _not_returned(board, job, now)


def _undelivered(board: Board, job: Job, now: float) -> None:
    """A35: cancel, close 4031, and take every job of that agent back."""
    board.note("warning", "Dispatch ack deadline expired, treating dispatch as lost", job=job)
    agent = board.agents.get(job.agent_id)
    if agent is None or agent.connection_id is None:
        progress.requeue(board, job, "dispatch not acknowledged", now)
        return
    message = JobCancel(
        message_id=board.new_id(),
        run_id=job.key.run_id,
        job_id=job.key.job_id,
        reason="dispatch ack timeout",
    )
    board.do(SendAgent(agent.connection_id, message))
    progress.requeue(board, job, "dispatch not acknowledged", now)
    close(board, agent, CLOSE_SILENT, "Dispatch not acknowledged")
    cut_off(board, agent, "dispatch not acknowledged", now)
    if agent.scaler is not None:
        stop(board, agent, now, "it did not acknowledge a dispatch", grace_s=0.0)


def _disobeyed(board: Board, job: Job, now: float) -> None:
    """A75: the agent had its time; the job ends here, and so does the agent."""
    agent = board.agents.get(job.agent_id)
    reason = job.cancel_reason or "cancelled by its agent"
    error = f"{reason} (the agent did not stop in time)"
    progress.finish(board, job, "cancelled", now, error=error)
    if agent is None:
        return
    close(board, agent, CLOSE_SILENT, "Cancel not obeyed")
    cut_off(board, agent, "cancel not obeyed", now)
    if agent.scaler is not None:
        stop(board, agent, now, "it did not obey a cancel", grace_s=0.0)


def _not_returned(board: Board, job: Job, now: float) -> None:
    agent = board.agents.get(job.agent_id)
    error = progress.AGENT_LOST if job.agent_id is not None else progress.WORKER_RESTARTED
    if job.cancel_reason is not None:
        progress.finish(board, job, "cancelled", now, error=job.cancel_reason)
    else:
        progress.finish(board, job, "failed", now, error=error)
    if agent is not None and not agent.jobs and agent.connection_id is None:
        stop(board, agent, now, "it did not come back")


def _agent_due(board: Board, agent: Agent, now: float) -> None:
    agent.deadline = None
    if agent.state in ON_THE_WAY:
        # One that was found after a restart says nothing about how starts go now.
        ours = not agent.reason
        launch_failed(board, agent, "it did not register in time", now, gone=False, blame=ours)
    elif agent.state is AgentState.STOPPING:
        board.note("error", "Agent cannot be stopped, giving it up", agent=agent)
        vanish(board, agent, "not stopped in time")
    elif agent.reason.startswith("exited"):
        ended(board, agent, agent.reason, now)
    elif agent.state is AgentState.IDLE and agent.scaler is not None:
        _idle_due(board, agent, now)


def _idle_due(board: Board, agent: Agent, now: float) -> None:
    """Only the surplus above the warm pool's size goes (S86)."""
    target = board.scaling.target(agent.scaler, agent.label_set)
    pool = target.scaler.warm_pool if target is not None else None
    wanted = pool is not None and pool.enabled and not board.stopping
    if wanted and target is not None and pool is not None and n_warm(board, target) <= pool.size:
        agent.deadline = now + _WARM_CHECK_S
        return
    if agent.warm and not agent.used:
        board.counts.warm_reaped[agent.scaler or ""] += 1
    let_go(board, agent, now, "nobody needs it")
