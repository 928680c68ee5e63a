"""Agents that come back with jobs (agent spec 4.6, A76-A80; issue "Nothing accepted is lost")."""

from collections.abc import Iterable

from kici.contracts.states import WAITING, JobState
from kici.contracts.wire.agent.jobs import JobCancel
from kici.pool import progress
from kici.pool.actions import SendAgent
from kici.pool.agents import Agent
from kici.pool.board import Board
from kici.pool.jobs import Job
from kici.pool.reading import pause, resume_all
from kici.pool.staff import settle, unbind

#: After a start the outbox's open records may come later than the first agents; until then
#: an unknown job is not told to stop and its agent is not read. The peer says them when it
#: starts and to each new pool, and one that hangs is replaced after 60 s.
OUTBOX_WAIT_S = 120.0


def reconcile(board: Board, agent: Agent, in_flight: Iterable[tuple[str, str]], now: float) -> None:
    """Compare what a (re)registered agent runs with what we think it runs."""
    listed = set(in_flight)
    agent.strangers.clear()
    for ids in listed:
        job = _claimable(board, agent, ids)
        if job is not None:
            adopt(board, agent, job, now)
        else:
            agent.strangers.add(ids)
    for key in sorted(agent.jobs):
        job = board.jobs.get(key)
        if job is not None and (key.run_id, key.job_id) not in listed:
            came_back_without(board, job, now)
    if board.outbox_seen:
        refuse_strangers(board, agent)
    elif agent.strangers:
        # The end of such a job may be the next it says, and nobody else knows it.
        pause(board, agent)
    settle(board, agent, now)


def _claimable(board: Board, agent: Agent, ids: tuple[str, str]) -> Job | None:
    """The row that this agent may run: its own, an open record's, or one without agent."""
    rows = [job for job in board.jobs.named(*ids) if job.state is not JobState.FINISHED]
    own = [job for job in rows if job.agent_id == agent.agent_id]
    free = [job for job in rows if job.agent_id is None]
    return (own or free or [None])[0]


def adopt(board: Board, agent: Agent, job: Job, now: float) -> None:
    """``agent`` runs ``job``: nobody else shall."""
    unbind(board, job, None)
    agent.used = True
    agent.jobs.add(job.key)
    agent.strangers.discard((job.key.run_id, job.key.job_id))
    job.agent_id, job.scaler_name = agent.agent_id, agent.scaler
    if job.state in WAITING:
        board.move_job(job, JobState.DISPATCHED)
    progress.delivered(board, job)
    board.note("info", "Agent came back with its job", job=job)
    if job.cancel_reason is not None or job.state is JobState.CANCELLING:
        progress.send_cancel(board, job, now)
        return
    if job.state is not JobState.RUNNING:
        run(board, job)
        progress.announce(board, job, "running")


def run(board: Board, job: Job) -> None:
    """The job runs: from now on it cannot be dispatched again, so its payload goes."""
    job.started = True
    job.started_wall = job.started_wall or board.wall()
    if job.spec is not None:
        job.spec.fields = None
    if job.state is not JobState.RUNNING:
        board.move_job(job, JobState.RUNNING)


def came_back_without(board: Board, job: Job, now: float) -> None:
    """A77: the agent is here and does not run the job it had."""
    if not job.started and job.state is not JobState.RECOVERING:
        progress.requeue(board, job, "agent came back without the job", now)
        return
    outcome = "cancelled" if job.cancel_reason is not None else "failed"
    progress.finish(board, job, outcome, now, error=progress.AGENT_LOST)


def refuse_strangers(board: Board, agent: Agent) -> None:
    """A80: nobody knows these jobs; they keep their slots until the agent ends them."""
    for run_id, job_id in sorted(agent.strangers):
        if agent.connection_id is None:
            return
        board.note("warning", "Agent runs an unknown job", agent=agent, runId=run_id, jobId=job_id)
        message = JobCancel(
            message_id=board.new_id(), run_id=run_id, job_id=job_id, reason="unknown job"
        )
        board.do(SendAgent(agent.connection_id, message))


def claim_open(board: Board, now: float) -> None:
    """Open records have arrived: agents that came first get the jobs they run."""
    board.outbox_seen = True
    for agent in board.agents:
        if not agent.strangers:
            continue
        for ids in sorted(agent.strangers):
            job = _claimable(board, agent, ids)
            if job is not None:
                adopt(board, agent, job, now)
        refuse_strangers(board, agent)
        settle(board, agent, now)
    resume_all(board)
