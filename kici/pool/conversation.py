"""What registered agents say (agent spec 2.2, 4.3, A53-A63)."""

from kici.contracts.link import JobKey
from kici.contracts.link.jobs import JobLogged, JobProgressed
from kici.contracts.link.views import JobLogTail, StepView
from kici.contracts.states import JobState
from kici.contracts.wire.agent.jobs import JobAck, JobReject, JobStatus, LogChunk, StepStatus
from kici.contracts.wire.agent.session import AgentStatus
from kici.pool import progress, reading, relay
from kici.pool.adoption import run
from kici.pool.agents import Agent
from kici.pool.board import Board
from kici.pool.dispatch import MAX_SHOWN
from kici.pool.jobs import Job
from kici.pool.staff import settle

#: From ``job.ack`` to ``job.status running``: real agents say both at once.
START_S = 300.0
#: A rejecting agent rests, doubling with each reject in a row (A37: at least one second).
REST_FIRST_S = 1.0
REST_MAX_S = 30.0
#: An agent that announces ``cancelling`` by itself runs its hooks, at most this long.
HOOKS_S = 300.0
#: Steps of one job shown to people.
MAX_STEPS_SHOWN = 500

_STEP_ENDS = frozenset({"success", "failed", "skipped", "cancelled"})


def said(board: Board, connection_id: str, message: object, now: float) -> None:
    """One frame of a registered agent; what is not listed needs no reaction (A62)."""
    agent = board.agents.at(connection_id)
    if agent is None:
        return
    match message:
        case LogChunk():
            _log(board, agent, message, now)
        case StepStatus():
            _step(board, agent, message, now)
        case JobStatus():
            _status(board, agent, message, now)
        case JobAck():
            job = _own(board, agent, message.run_id, message.job_id)
            if job is not None:
                progress.delivered(board, job)
                _acknowledged(board, job, now)
        case JobReject():
            _rejected(board, agent, message, now)
        case AgentStatus():
            _free_again(board, agent, message, now)


def _own(board: Board, agent: Agent, run_id: str, job_id: str) -> Job | None:
    """The job with these ids if it is this agent's, also while its end is held (A61)."""
    for job in board.jobs.named(run_id, job_id):
        if job.agent_id == agent.agent_id:
            return job
    return None


def _acknowledged(board: Board, job: Job, now: float) -> None:
    if job.state is JobState.DISPATCHED:
        board.move_job(job, JobState.ACKNOWLEDGED, now + START_S)


def _rejected(board: Board, agent: Agent, message: JobReject, now: float) -> None:
    job = _own(board, agent, message.run_id, message.job_id)
    if job is None or job.started or job.state is JobState.FINISHED:
        return
    board.note("warning", "Agent rejected job dispatch", job=job, reason=message.reason)
    rest = min(REST_FIRST_S * 2.0**agent.n_rejects, REST_MAX_S)
    agent.n_rejects = min(agent.n_rejects + 1, 10)
    agent.rest_until = now + rest
    agent.draining = agent.draining or message.reason == "draining"
    # It did not run anything, so a single-use agent is as good as new.
    agent.used = bool(agent.jobs - {job.key})
    # A busy agent delivered nothing wrong: only the job's queue deadline bounds this (A37).
    progress.requeue(
        board, job, f"agent rejected it: {message.reason}", now, counts=message.reason != "busy"
    )


def _free_again(board: Board, agent: Agent, message: AgentStatus, now: float) -> None:
    """The agent has said all about its ended jobs; held reports may go."""
    if message.active_jobs == 0:
        agent.n_rejects = 0
    for job in board.jobs:
        if job.held_until is not None and job.agent_id == agent.agent_id:
            progress.release(board, job, now)
    board.changed = True


def _status(board: Board, agent: Agent, message: JobStatus, now: float) -> None:
    state = relay.job_state(message.state)
    job = _own(board, agent, message.run_id, message.job_id)
    if job is None or job.state is JobState.FINISHED:
        # Also of a job whose end is not stored yet: an agent that came back lists it.
        if state in relay.AGENT_TERMINAL:
            agent.strangers.discard((message.run_id, message.job_id))
            settle(board, agent, now)
        return
    if state is None:
        return
    progress.delivered(board, job)
    if state == "running":
        _runs(board, job, message, now)
    elif state == "cancelling":
        _cancelling(board, job, message, now)
    else:
        agent.n_rejects = 0
        progress.finish(
            board,
            job,
            state,
            now,
            data=relay.status_data(message),
            timestamp=message.timestamp,
            hold=True,
        )


def _runs(board: Board, job: Job, message: JobStatus, now: float) -> None:
    """Exactly one ``running`` (A53), and none after ``cancelling`` (P74)."""
    if job.state is JobState.CANCELLING:
        job.started = True
        return
    if job.state is JobState.RUNNING:
        return
    _acknowledged(board, job, now)
    run(board, job)
    board.note("info", "Job status update", job=job, state="running")
    progress.announce(board, job, "running", message.timestamp)


def _cancelling(board: Board, job: Job, message: JobStatus, now: float) -> None:
    if job.state is not JobState.CANCELLING:
        board.move_job(job, JobState.CANCELLING, now + HOOKS_S)
    job.started = True
    if not job.cancelling_told:
        job.cancelling_told = True
        progress.announce(board, job, "cancelling", message.timestamp)


def _step(board: Board, agent: Agent, message: StepStatus, now: float) -> None:
    job = _own(board, agent, message.run_id, message.job_id)
    state = relay.step_state(message.state)
    if job is None or state is None or not _still_open(job, now):
        return
    job.announced = True
    frame = relay.step_frame(message, state)
    board.outflow.say(job.key, JobProgressed(key=job.key, frame=frame))
    index = message.step_index
    if index in job.steps or len(job.steps) < MAX_STEPS_SHOWN:
        seen = job.steps.get(index)
        job.steps[index] = StepView(
            index=index,
            name=message.step_name[:MAX_SHOWN] or (seen.name if seen else ""),
            state=state,
            started_at=seen.started_at if seen else message.timestamp / 1000,
            ended_at=message.timestamp / 1000 if state in _STEP_ENDS else None,
        )
        board.dirty_jobs[job.key] = job


def _still_open(job: Job, now: float) -> bool:
    """Nothing may follow a terminal report that went out (peer spec 4.8)."""
    if job.state is not JobState.FINISHED:
        return True
    if job.held_until is None:
        return False
    job.quiet_at = min(now + progress.QUIET_S, job.held_until)
    return True


def _log(board: Board, agent: Agent, message: LogChunk, now: float) -> None:
    """The hot path: one lookup, one rendering, one message."""
    job = _own(board, agent, message.run_id, message.job_id)
    if job is None or not message.lines:
        return
    if not _still_open(job, now):
        if not job.n_late_lines:  # said once: the agent decides how many there are
            board.note("warning", "Log lines after the terminal report dropped", job=job)
        job.n_late_lines += len(message.lines)
        return
    fit = job.numbers.fit(
        int(message.step_index), message.first_line, len(message.lines), message.n_covered
    )
    if fit.skip and message.n_covered is None:
        message = relay.later_lines(message, fit.skip)
        if not message.lines:
            return
    job.n_log_lines += len(message.lines)
    if not board.outflow.stopped:
        progress.tell_gap(board, job)
    for n_lines, frame in relay.log_frames(message):
        board.outflow.log(JobLogged(key=job.key, n_lines=n_lines, frame=frame))
    board.counts.log(message.lines)
    if board.outflow.stopped:
        reading.pause_writers(board)
    if job.key.job_id in board.watched:
        board.tell("web", _tail(job.key, message))


def _tail(key: JobKey, message: LogChunk) -> JobLogTail:
    return JobLogTail(
        key=key,
        step_index=int(message.step_index),
        stream=message.stream or "stdout",
        timestamp=message.timestamp / 1000,
        lines=message.lines,
    )
