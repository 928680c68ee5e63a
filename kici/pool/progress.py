"""The verbs of a job's life: dispatch, requeue, cancel, finish, release."""

from typing import Any

from kici.contracts.link.jobs import (
    JobDispatched,
    JobFinished,
    JobLogged,
    JobProgressed,
    ScalerReported,
)
from kici.contracts.states import WAITING, JobState
from kici.contracts.wire import Number
from kici.contracts.wire.agent.jobs import JobCancel
from kici.pool import relay
from kici.pool.actions import SendAgent
from kici.pool.agents import Agent
from kici.pool.board import Board
from kici.pool.dispatch import build_dispatch
from kici.pool.jobs import Job
from kici.pool.staff import settle, unbind

#: Deliveries of one job before it fails (peer spec 5.2).
MAX_ATTEMPTS = 5
#: From job.cancel to the end by our own hand: 30 s grace of the agent plus its hooks.
CANCEL_BUDGET_S = 60.0
FORCE_BUDGET_S = 15.0
#: A terminal report waits for late logs until the agent says it is free or is silent for
#: ``QUIET_S``, at most ``LATE_S`` (A60): nothing may follow a terminal report (peer 4.8).
QUIET_S = 1.0
LATE_S = 30.0
#: An unstored terminal report is told again after this; a lost link message is a bug, but
#: the promise must not hang on that.
RESEND_S = 30.0

ATTEMPTS_EXHAUSTED = "dispatch attempts exhausted"
AGENT_LOST = "agent lost while running the job"
WORKER_RESTARTED = "worker restarted"


def dispatch(board: Board, job: Job, agent: Agent, now: float) -> None:
    """Hand ``job`` to ``agent``: the slot is taken before the frame is sent."""
    assert job.spec is not None
    assert agent.connection_id is not None
    unbind(board, job, agent)
    agent.bound = None
    agent.used = True
    if agent.scaler is not None:
        job.matched = True
        board.scaling.succeeded((agent.scaler, agent.label_set))
    agent.jobs.add(job.key)
    job.agent_id, job.scaler_name = agent.agent_id, agent.scaler
    job.attempt += 1
    board.move_job(job, JobState.DISPATCHED, now + board.settings.dispatch_ack_timeout_s)
    settle(board, agent, now)
    message = build_dispatch(
        job.spec, message_id=board.new_id(), timestamp_ms=int(board.wall() * 1000)
    )
    board.do(SendAgent(agent.connection_id, message))
    board.note("info", "Dispatched rerouted job to agent", job=job, jobName=job.spec.job_name)


def requeue(board: Board, job: Job, reason: str, now: float, *, counts: bool = True) -> None:
    """Take an undelivered job back; the last attempt makes it fail."""
    leave_agent(board, job, now)
    if not counts:
        job.attempt -= 1
    if job.cancel_reason is not None:
        finish(board, job, "cancelled", now, error=job.cancel_reason)
    elif job.attempt >= MAX_ATTEMPTS:
        board.note("warning", "Job re-dispatch attempts exhausted", job=job, reason=reason)
        finish(board, job, "failed", now, error=f"{ATTEMPTS_EXHAUSTED}: {reason}")
    else:
        board.note("info", "Job requeued for re-dispatch", job=job, reason=reason)
        job.agent_id, job.delivered = None, False
        board.move_job(job, JobState.QUEUED, job.queue_until)


def leave_agent(board: Board, job: Job, now: float) -> None:
    """Free the slot that ``job`` takes."""
    agent = board.agents.get(job.agent_id)
    if agent is not None and job.key in agent.jobs:
        agent.jobs.discard(job.key)
        settle(board, agent, now)


def cancel(board: Board, job: Job, reason: str, now: float, *, force: bool) -> None:
    """Cancel wherever the job is (A72-A75); a second wish only adds force."""
    if job.state is JobState.FINISHED:
        return
    again = job.cancel_reason is not None
    # A coordinator that restarted meanwhile may not know any more why; people shall still read
    # that it was a cancel.
    reason = reason or "cancelled"
    job.cancel_reason, job.cancel_force = job.cancel_reason or reason, force or job.cancel_force
    if job.state in WAITING:
        board.note("info", "Cancelled before it reached an agent", job=job, reason=reason)
        finish(board, job, "cancelled", now, error=reason)
    elif job.state is JobState.RECOVERING:
        board.job_changed(job)  # it takes effect when the agent returns (A74)
    elif not again or force:
        send_cancel(board, job, now)


def send_cancel(board: Board, job: Job, now: float) -> None:
    """Tell the agent and start the budget."""
    agent = board.agents.get(job.agent_id)
    budget = FORCE_BUDGET_S if job.cancel_force else CANCEL_BUDGET_S
    if job.state is JobState.CANCELLING:
        job.deadline = min(job.deadline or now + budget, now + budget)
    else:
        board.move_job(job, JobState.CANCELLING, now + budget)
    if agent is None or agent.connection_id is None:
        return
    message = JobCancel(
        message_id=board.new_id(),
        run_id=job.key.run_id,
        job_id=job.key.job_id,
        reason=job.cancel_reason or "cancelled",
        force=True if job.cancel_force else None,
    )
    board.do(SendAgent(agent.connection_id, message))


def announce(board: Board, job: Job, state: str, timestamp: Number | None = None) -> None:
    """A non-terminal job update."""
    job.announced = True
    when = timestamp if timestamp is not None else int(board.wall() * 1000)
    frame = relay.job_frame(job.key.run_id, job.key.job_id, state, when)
    board.outflow.say(job.key, JobProgressed(key=job.key, frame=frame))


def finish(
    board: Board,
    job: Job,
    outcome: str,
    now: float,
    *,
    error: str | None = None,
    data: dict[str, Any] | None = None,
    timestamp: Number | None = None,
    hold: bool = False,
) -> None:
    """The one terminal report of ``job``; ``hold`` lets late logs pass before it."""
    data = dict(data or {})
    if error is not None:
        data.setdefault("error", error)
    when = timestamp if timestamp is not None else int(board.wall() * 1000)
    frame = relay.job_frame(job.key.run_id, job.key.job_id, outcome, when, data)
    unbind(board, job, None)
    board.move_job(job, JobState.FINISHED)
    job.outcome, job.completed_wall = outcome, board.wall()
    job.error = str(data["error"])[:1000] if data.get("error") else None
    job.finished = JobFinished(key=job.key, state=outcome, frame=frame)
    if job.spec is not None:
        job.spec.fields = None
    job.held_until, job.quiet_at = (now + LATE_S, now + QUIET_S) if hold else (None, None)
    leave_agent(board, job, now)
    board.note("info", "Job status update", job=job, state=outcome)
    if not hold:
        release(board, job, now)


def release(board: Board, job: Job, now: float) -> None:
    """Hand the terminal report over; from here on nothing else is said about the job."""
    assert job.finished is not None
    job.held_until = job.quiet_at = None
    tell_gap(board, job)
    board.outflow.say(job.key, job.finished)
    job.resend_at = now + RESEND_S
    agent = board.agents.get(job.agent_id)
    if agent is not None:
        settle(board, agent, now)


def tell_gap(board: Board, job: Job) -> None:
    """Say in the log itself how many lines our bound cost it."""
    n_lost = board.outflow.lost(job.key)
    if not n_lost:
        return
    text = f"[kici-worker: {n_lost} log lines lost, the log buffer of the worker was full]"
    frame = relay.note_frame(job.key.run_id, job.key.job_id, -1, text, int(board.wall() * 1000))
    board.outflow.say(job.key, JobLogged(key=job.key, n_lines=n_lost, frame=frame))
    board.note("warning", "Log lines lost", job=job, lines=n_lost)


def scaler_event(board: Board, job: Job, agent: Agent, kind: str, detail: str) -> None:
    """One ``scaler.event`` for an owned job (P64, S91, S95)."""
    if job.state is JobState.FINISHED:
        return
    frame = relay.scaler_frame(
        job.key.run_id, job.key.job_id, agent.agent_id, kind, detail, int(board.wall() * 1000)
    )
    board.outflow.say(job.key, ScalerReported(key=job.key, frame=frame))


def delivered(board: Board, job: Job) -> None:
    """The agent has it, which may run it from now on: the peer must not offer it again, also
    when it was cancelled on its way."""
    if not job.delivered:
        job.delivered = True
        board.tell("peer", JobDispatched(key=job.key))
