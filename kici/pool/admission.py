"""What the peer says: offers, cancels, receipts, open records (peer spec 4.5, 4.7, 4.13)."""

from kici.contracts.link.jobs import (
    JobAccepted,
    JobCancel,
    JobDeclined,
    JobOffered,
    JobStored,
    OutboxState,
)
from kici.contracts.link.views import DeclineView
from kici.contracts.states import WAITING, JobState
from kici.pool import progress
from kici.pool.adoption import claim_open
from kici.pool.board import Board
from kici.pool.dispatch import JobSpec, Refused, read_offer
from kici.pool.jobs import Job
from kici.pool.schedule import could_serve, pick_agent
from kici.pool.staff import settle
from kici.pool.supply import resources_for, target_for

DRAINING = "Worker is draining"
LOOP = "Loop detected"
HOPS = "Max hops exceeded"
NOBODY = "No matching agent available"
FULL = "At capacity"
WITHDRAWN = "An earlier offer of this job is still being withdrawn here"
#: Cancels between our start and the peer's open records: a fraction of a second.
MAX_EARLY_CANCELS = 1000


def offered(board: Board, event: JobOffered, now: float) -> None:
    """Answer an offer, once and at once."""
    if _for_another(board, event):
        return
    held = board.jobs.get(event.key)
    if held is not None and held.withdrawn and not event.again:
        # Offered anew by a peer that knows nothing of that: its end must not become this one's.
        _decline(board, event, None, WITHDRAWN, now)
        return
    if held is not None and not (event.again and _unclaimed(held)):
        board.tell("peer", JobAccepted(key=event.key, message_id=event.message_id))
        return
    try:
        spec = read_offer(event.reroute)
    except Refused as refusal:
        _decline(board, event, None, str(refusal), now)
        return
    job = _row(board, event, spec, now)
    if reason := _obstacle(board, job, now):
        _decline(board, event, job, reason, now)
        return
    _accept(board, event, job)


def _for_another(board: Board, event: JobOffered | OutboxState) -> bool:
    """It lay in the socket for the pool before us: the peer says it anew, and then it knows
    what that pool said last."""
    return bool(event.pool and board.boot_id) and event.pool != board.boot_id


def _unclaimed(job: Job) -> bool:
    """An open record that no agent has claimed: the peer still had its payload."""
    return job.spec is None and job.state is JobState.RECOVERING and job.agent_id is None


def _row(board: Board, event: JobOffered, spec: JobSpec | None, now: float) -> Job:
    until = now + board.settings.queue_timeout_s
    return Job(
        key=event.key,
        state=JobState.QUEUED,
        spec=spec,
        accepted_at=now,
        accepted_wall=board.wall(),
        deadline=until,
        queue_until=until,
    )


def _accept(board: Board, event: JobOffered, job: Job) -> None:
    old = board.jobs.get(job.key)
    board.jobs.add(job)
    board.recent.discard(job.key)
    board.job_changed(job)
    board.tell("peer", JobAccepted(key=event.key, message_id=event.message_id))
    if old is not None and old.cancel_reason is not None:
        progress.cancel(board, job, old.cancel_reason, job.accepted_at, force=old.cancel_force)


def _obstacle(board: Board, job: Job, now: float) -> str:
    """Why the offer is refused; empty when it is taken."""
    assert job.spec is not None
    if board.draining or board.stopping:
        return DRAINING
    if board.settings.instance_id in job.spec.tried:
        return LOOP
    if len(job.spec.tried) >= job.spec.max_hops:
        return HOPS
    if board.guards.reason:
        return board.guards.reason
    if pick_agent(job, board.agents, now) is not None:
        return ""
    target = target_for(board, job, now)
    trouble = "" if target is None else board.scaling.broken(target)
    if (target is None or trouble) and not could_serve(job, board.agents):
        return f"{NOBODY}: {trouble}" if trouble else NOBODY
    if target is not None:
        requests, _ = resources_for(board, target, job)
        if not board.scaling.obstacle(target, requests, now):
            return ""
        board.counts.n_spawn_refusals += 1
    return FULL if len(board.jobs.waiting()) >= board.settings.queue_limit else ""


def _decline(board: Board, event: JobOffered, job: Job | None, reason: str, now: float) -> None:
    """Refuse; a job that was acknowledged before (``again``) can only be taken or failed."""
    if event.again:
        job = job or _row(board, event, None, now)
        _accept(board, event, job)
        # Agents started by hand need a moment to come back to a new pool.
        may_be_served = board.outsiders or not reason.startswith(NOBODY)
        takes_part = job.spec is not None and may_be_served
        if job.state is not JobState.FINISHED and not takes_part:
            progress.finish(board, job, "failed", now, error=reason)
        return
    spec = job.spec if job is not None else None
    board.tell("peer", JobDeclined(key=event.key, message_id=event.message_id, reason=reason))
    board.tell(
        "web",
        DeclineView(
            rev=board.next_rev(),
            at=board.wall(),
            job_name=spec.job_name if spec else "",
            labels=spec.labels if spec else (),
            reason=reason,
        ),
    )
    fields = {"runId": event.key.run_id, "jobId": event.key.job_id, "reason": reason}
    if spec is not None and spec.request_id:
        fields["requestId"] = spec.request_id
    board.note("warning", "Refused rerouted job", **fields)


def cancelled(board: Board, event: JobCancel, now: float) -> None:
    """``peer.job.cancel``: one job, or every job of the run of that coordinator."""
    if not board.outbox_seen and len(board.early_cancels) < MAX_EARLY_CANCELS:
        # A coordinator repeats its cancels as soon as the link is up: it may mean a job whose
        # open record has not been told yet.
        board.early_cancels.append(event)
    for job in board.jobs:
        key = job.key
        if (key.owner, key.run_id) == (event.owner, event.run_id) and (
            event.job_id is None or event.job_id == key.job_id
        ):
            job.withdrawn = job.withdrawn or event.withdrawn
            progress.cancel(board, job, event.reason, now, force=event.force)


def stored(board: Board, event: JobStored, now: float) -> None:
    """The outbox holds the end of the job: the row may go."""
    job = board.jobs.get(event.key)
    if job is not None and job.state is JobState.FINISHED and job.held_until is None:
        board.jobs.drop(event.key)
        board.recent.add(event.key)
        board.job_changed(job)
        agent = board.agents.get(job.agent_id)
        if agent is not None:
            settle(board, agent, now)


def outbox_told(board: Board, event: OutboxState, now: float) -> None:
    """Open records that we do not hold wait for their agents (after a restart of ours)."""
    if _for_another(board, event):
        return
    board.outbox_seen = True
    for record in event.open:
        if board.jobs.get(record.key) is not None or record.key in board.recent:
            continue
        job = Job(
            key=record.key,
            state=JobState.RECOVERING,
            spec=None,
            accepted_at=now,
            accepted_wall=record.accepted_at,
            deadline=now + board.settings.adopt_grace_s,
            started=True,
            announced=True,
        )
        board.jobs.add(job)
        board.unclaimed.add(job.key)
        board.job_changed(job)
    early, board.early_cancels = board.early_cancels, []
    for cancel in early:
        cancelled(board, cancel, now)
    claim_open(board, now)


def drain_cut(board: Board, reason: str, now: float) -> None:
    """The wait is over: cancel and report everything."""
    for job in board.jobs:
        if job.state is JobState.FINISHED:
            if job.held_until is not None:
                progress.release(board, job, now)
        elif job.state in WAITING or job.state is JobState.RECOVERING:
            progress.finish(board, job, "cancelled", now, error=reason)
        else:
            progress.cancel(board, job, reason, now, force=True)
