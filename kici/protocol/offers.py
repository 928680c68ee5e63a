"""Jobs between a coordinator's offer and its receipt, as the peer sees them (peer spec 5.2).

OFFERED -> (pool accepts) -> HELD -> (terminal report) -> CONCLUDED -> (receipt) -> gone. Pure.
"""

from collections.abc import Callable, Iterable
from enum import StrEnum

from kici.contracts.link import JobKey
from kici.contracts.link.jobs import JobCancel, JobStored
from kici.protocol.machine import Actions, Forget, Note, Tell
from kici.protocol.offer_actions import Conclude, Promise, Report, Stored, failed, no, offer, yes

#: The coordinator waits 15 s for the answer; ours must still reach it.
ANSWER_WITHIN_S = 12.0
NOT_ANSWERING = "Worker pool is not answering"
#: Repeated offers of one job that wait for the same decision.
_MAX_REPEATS = 16


class _Stage(StrEnum):
    OFFERED = "offered"
    HELD = "held"
    CONCLUDED = "concluded"


class _Job:
    """One job; ``payload`` is its reroute (SECRET), kept until an agent has it."""

    __slots__ = ("cancel", "confirmed", "dispatched", "message_ids", "payload", "stage", "until")

    def __init__(self, stage: _Stage, *, confirmed: bool, until: float = 0.0) -> None:
        self.stage = stage
        self.confirmed = confirmed  # by the pool that runs now
        self.dispatched = False  # an agent may have run it: it must not start once more
        self.until = until
        self.message_ids: list[str] = []
        self.payload: bytes | None = None
        self.cancel: JobCancel | None = None  # for the next pool


class Offers:
    """Owns: the jobs this worker was offered or holds. ``wall()`` gives epoch milliseconds."""

    def __init__(self, wall: Callable[[], int]) -> None:
        self._wall = wall
        self._jobs: dict[JobKey, _Job] = {}
        self._withdrawn: set[JobKey] = set()
        #: Boot id of the pool that was heard last.
        self.pool = ""

    @property
    def deadline(self) -> float | None:
        waiting = [job.until for job in self._jobs.values() if job.stage is _Stage.OFFERED]
        return min(waiting, default=None)

    def restore(self, held: Iterable[JobKey], concluded: Iterable[JobKey]) -> None:
        """What the outbox holds after a start of this process."""
        for key in held:
            self._jobs[key] = _Job(_Stage.HELD, confirmed=False)
        for key in concluded:
            self._jobs[key] = _Job(_Stage.CONCLUDED, confirmed=True)

    def relays(self, key: JobKey) -> bool:
        """Whether steps and logs of this job may go out: never after its terminal report."""
        job = self._jobs.get(key)
        return job is not None and job.stage is _Stage.HELD

    def offered(self, key: JobKey, message_id: str, reroute: bytes, now: float) -> Actions:
        """A ``job.reroute`` that the link did not refuse (P37, P42)."""
        job = self._jobs.get(key)
        if key in self._withdrawn:
            return [no(key, message_id, NOT_ANSWERING)]
        if job is None:
            job = _Job(_Stage.OFFERED, confirmed=False, until=now + ANSWER_WITHIN_S)
            job.message_ids.append(message_id)
            job.payload = reroute
            self._jobs[key] = job
            return [Tell("pool", offer(key, message_id, reroute, self.pool, again=False))]
        if job.stage is _Stage.OFFERED:
            if len(job.message_ids) >= _MAX_REPEATS:
                return [no(key, message_id, NOT_ANSWERING)]
            job.message_ids.append(message_id)
            return []
        actions: Actions = [yes(key, message_id)]
        if job.stage is _Stage.CONCLUDED:
            actions.append(Report(key))
        elif not job.confirmed and not job.dispatched:
            # The pool that accepted it may be gone: with the payload it can start it after all.
            job.payload = reroute
            actions.append(Tell("pool", offer(key, message_id, reroute, self.pool, again=True)))
        return actions

    def accepted(self, key: JobKey) -> Actions:
        """The pool holds the job. One that we do not know was offered by a peer before us,
        which never acknowledged it (it would have promised first): it is another's by now.
        Nor do we know one that we withdrew."""
        if key not in self._jobs:
            self._withdrawn.add(key)
            cancel = JobCancel(
                owner=key.owner,
                run_id=key.run_id,
                job_id=key.job_id,
                reason="The offer was refused before the pool answered",
                force=True,
                withdrawn=True,
            )
            return [Tell("pool", cancel)]
        job = self._jobs[key]
        job.confirmed = True
        if job.stage is not _Stage.OFFERED:
            return []
        job.stage = _Stage.HELD
        answers = [yes(key, message_id) for message_id in job.message_ids]
        job.message_ids = []
        return [Promise(key), *answers]

    def declined(self, key: JobKey, reason: str) -> Actions:
        """The pool refuses; a job that was promised before ends as failed instead."""
        job = self._jobs.get(key)
        if job is None:
            self._withdrawn.discard(key)
            return []
        if job.stage is _Stage.OFFERED:
            del self._jobs[key]
            return [no(key, message_id, reason) for message_id in job.message_ids]
        if job.stage is _Stage.HELD and not job.confirmed and not job.dispatched:
            return self.finished(key, failed(key, reason, self._wall()))
        return []

    def not_promised(self, key: JobKey, message_ids: Iterable[str], reason: str) -> Actions:
        """The open record cannot be written: refuse, and take the job back from the pool."""
        self._jobs.pop(key, None)
        self._withdrawn.add(key)
        text = f"Outbox cannot be written: {reason}"
        note = Note("error", "Failed to persist accepted job to outbox", {"error": reason})
        answers = [no(key, message_id, text) for message_id in message_ids]
        return [note, *answers, *self.accepted(key)]

    def cancelled(self, cancel: JobCancel) -> None:
        """The coordinator wants an end; the pool is told by who heard it."""
        for key, job in self._jobs.items():
            same_run = (cancel.owner, cancel.run_id) == (key.owner, key.run_id)
            if same_run and cancel.job_id in (None, key.job_id):
                job.cancel = cancel

    def dispatched(self, key: JobKey) -> None:
        """An agent has it: the payload with its secrets is needed no more."""
        job = self._jobs.get(key)
        if job is not None:
            job.payload = None
            job.dispatched = True

    def finished(self, key: JobKey, frame: bytes) -> Actions:
        """The terminal report; repeated by the pool until ``job.stored``."""
        if key in self._withdrawn:
            self._withdrawn.discard(key)
            return [Tell("pool", JobStored(key=key))]
        job = self._jobs.get(key)
        if job is None:
            # Receipted already (a new pool may have been told of the open record just before),
            # or never acknowledged: else there would be an open record.
            return [Stored(key)]
        job.stage, job.payload, job.confirmed = _Stage.CONCLUDED, None, True
        return [Conclude(key, frame)]

    def receipted(self, key: JobKey) -> Actions:
        """The coordinator has committed the terminal state; an unknown one is harmless."""
        job = self._jobs.get(key)
        if job is not None and job.stage is _Stage.CONCLUDED:
            del self._jobs[key]
        return [Forget(key)]

    def expired(self, key: JobKey) -> None:
        """Retention removed the record."""
        self._jobs.pop(key, None)

    def pool_restarted(self) -> Actions:
        """A new pool: it knows nothing of what no agent has yet."""
        self._withdrawn.clear()
        actions: Actions = []
        for key, job in self._jobs.items():
            job.confirmed = job.stage is _Stage.CONCLUDED
            if job.payload is not None:
                message_id = job.message_ids[0] if job.message_ids else ""
                again = job.stage is _Stage.HELD
                offered = offer(key, message_id, job.payload, self.pool, again=again)
                actions.append(Tell("pool", offered))
            if job.cancel is not None and job.stage is not _Stage.CONCLUDED:
                actions.append(Tell("pool", job.cancel))
        return actions

    def tick(self, now: float) -> Actions:
        """Refuse what the pool did not answer in time."""
        actions: Actions = []
        for key, job in list(self._jobs.items()):
            if job.stage is not _Stage.OFFERED or now < job.until:
                continue
            del self._jobs[key]
            self._withdrawn.add(key)
            actions.append(Note("error", NOT_ANSWERING, {"runId": key.run_id, "jobId": key.job_id}))
            actions += [no(key, message_id, NOT_ANSWERING) for message_id in job.message_ids]
        return actions
