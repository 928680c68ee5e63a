"""Offers queued jobs to workers and hears their answers (C31-C42, C62, C63).

Owns: the jobs that have not ended. A job has one claim: it is QUEUED (ours), OFFERED to one
peer, or held by one; nothing else may start it (C38).
"""

import logging
import uuid
from collections.abc import Iterator

from kici.contracts.states import HeldState
from kici.contracts.wire.peer.jobs import JobRerouteAck, PeerJobCancel
from kici.coordinator.job import ACK_TIMEOUT_S, SPAWN_LIMIT_S, SPAWN_WINDOW_S, HeldJob
from kici.coordinator.jobs import JobRows
from kici.coordinator.registry import Registry
from kici.coordinator.reroute import for_send
from kici.coordinator.routing import (
    PeerEntry,
    Reservation,
    candidates,
    could_serve,
    fit,
    nak,
    why_waiting,
)

#: Unanswered offers that are remembered, so that a late acceptance is known as one.
MAX_ASKED = 20_000

_log = logging.getLogger("kici.coordinator")


class Placement:
    """Owns: every job that has not ended, by id, oldest first."""

    def __init__(self, registry: Registry, rows: JobRows, instance_id: str) -> None:
        self.jobs: dict[str, HeldJob] = {}
        # Offers whose answer may still come: message id -> peer, run, job.
        self._asked: dict[str, tuple[str, str, str]] = {}
        self._registry = registry
        self._rows = rows
        self._instance_id = instance_id

    def held_by(self, instance_id: str) -> list[HeldJob]:
        """Jobs that the peer holds or is being asked for."""
        return [job for job in self.jobs.values() if job.holder == instance_id]

    def waiting(self) -> Iterator[HeldJob]:
        return (job for job in list(self.jobs.values()) if job.state is HeldState.QUEUED)

    def offer_all(self, now: float) -> None:
        """Offer what waits: now and then, and when a peer came or changed (C63)."""
        hopeless: set[object] = set()
        for job in self.waiting():
            # Jobs that ask for the same find the same: 1,000 alike cost one look.
            wants = (job.labels, job.reroute.exclude_labels, job.reroute.runs_on_patterns)
            if wants in hopeless and not job.burned:
                continue
            if not self.offer(job, now) and not job.burned:
                hopeless.add(wants)

    def offer_to(self, peer: PeerEntry, now: float) -> None:
        """``peer`` has changed: offer it, or a better one, what it can take now (C63)."""
        if not peer.usable or peer.nak_until > now:
            return
        for job in self.waiting():
            if peer.instance_id not in job.burned and fit(peer, job.need) is not None:
                self.offer(job, now)

    def offer(self, job: HeldJob, now: float) -> bool:
        """Send ``job`` to the best peer that takes none of its chances away; False when
        there is none: then it waits and says why."""
        peers = self._registry.connected()
        for peer, fitting in candidates(peers, job.need, job.burned, now):
            if self._send(job, peer, now):
                peer.reserved[job.job_id] = Reservation(fitting.resource)
                return True
        job.why = why_waiting(peers, job.need, job.labels)
        return False

    def offer_again(self, job: HeldJob, peer: PeerEntry, now: float) -> None:
        """The peer reconnected before it answered: the same job id again, which a worker that
        holds it acknowledges without starting it twice (4.7)."""
        # Whatever becomes of this offer (a database that refuses), the job is judged.
        job.ack_until = now + ACK_TIMEOUT_S
        self._send(job, peer, now)

    def can_wait(self, job: HeldJob) -> bool:
        """Whether a peer that may have it could serve it later, though it is busy now."""
        return any(
            could_serve(peer, job.need)
            for peer in self._registry.connected()
            if peer.instance_id not in job.burned
        )

    def on_ack(self, instance_id: str, ack: JobRerouteAck, now: float) -> HeldJob | None:
        """The peer's answer to an offer; the job, when it was refused after it had been
        cancelled. A late acceptance is cancelled (C36)."""
        asked = self._asked.get(ack.message_id)
        if asked is None or asked[0] != instance_id:
            return None
        job = self.jobs.get(asked[2])
        if job is None or job.holder != instance_id:
            if ack.accepted:
                self._say_cancel(instance_id, asked[1], asked[2], "accepted too late")
            return None
        if job.message_id != ack.message_id or job.ack_until is None:
            return None  # asked again since, or progress was faster than the answer
        del self._asked[ack.message_id]
        if ack.accepted:
            self._accepted(job, instance_id, now)
            return None
        return self._refused(job, ack.reason or "no reason given", now)

    def _refused(self, job: HeldJob, reason: str, now: float) -> HeldJob | None:
        peer = self._registry.get(job.holder)
        if peer is not None:
            self._count_nak(job, peer, reason, now)
        self._rows.attempt(job.job_id, job.holder or "", "refused", reason)
        if job.state is HeldState.CANCELLING:
            job.ack_until = None
            return job
        self.requeue(job)
        self.offer(job, now)
        return None

    def timed_out(self, job: HeldJob, now: float) -> None:
        """No acknowledgement: the peer may have it, so it is told to drop it and never gets
        it again (C36, C38)."""
        peer = self._registry.get(job.holder)
        if peer is not None:
            self._count_nak(job, peer, "no answer within 15 s", now)
        self.take_away(job, "timeout", "job.reroute was not acknowledged")
        self.offer(job, now)

    def take_away(self, job: HeldJob, outcome: str, reason: str) -> None:
        """The job is ours again; the holder, which may have it, shall drop it and never gets
        it again. ``StoreError``: it is still the holder's, and knows of nothing."""
        holder = job.holder or ""
        self._rows.attempt(job.job_id, holder, outcome, reason)
        self.requeue(job)
        job.burned.add(holder)
        self._say_cancel(holder, job.run_id, job.job_id, reason)

    def requeue(self, job: HeldJob) -> None:
        """Nobody has it any more: it is ours. Durable first: after a restart we must not wait
        for a holder that has forgotten it."""
        self._rows.requeued(job.job_id)
        self._rows.commit()
        self._registry.release(job.holder, job.job_id)
        job.holder = None
        job.message_id = ""
        job.spoken_of = False
        job.ack_until = job.spawn_until = job.gone_until = job.ends_at = None
        job.move(HeldState.QUEUED)

    def drop(self, job: HeldJob) -> None:
        """It has ended."""
        self._registry.release(job.holder, job.job_id)
        self.jobs.pop(job.job_id, None)

    def _send(self, job: HeldJob, peer: PeerEntry, now: float) -> bool:
        message_id = str(uuid.uuid4())
        # The claim is durable before the peer can act on it: a restart in between must not
        # offer the job to somebody else (C38, C52).
        self._rows.move(job.job_id, HeldState.OFFERED, peer.instance_id)
        self._rows.commit()
        tried = (self._instance_id, *sorted(job.burned))
        if not self._registry.say(peer.instance_id, for_send(job.reroute, message_id, tried)):
            self._rows.move(job.job_id, job.state, job.holder)
            return False
        self._remember(message_id, peer.instance_id, job)
        job.move(HeldState.OFFERED)
        job.holder = peer.instance_id
        job.message_id = message_id
        job.ack_until = now + ACK_TIMEOUT_S
        job.why = ""
        return True

    def _remember(self, message_id: str, instance_id: str, job: HeldJob) -> None:
        if len(self._asked) >= MAX_ASKED:
            del self._asked[next(iter(self._asked))]
        self._asked[message_id] = (instance_id, job.run_id, job.job_id)

    def _accepted(self, job: HeldJob, instance_id: str, now: float) -> None:
        peer = self._registry.get(instance_id)
        if peer is not None:
            peer.n_naks, peer.nak_until = 0, 0.0
            if job.job_id in peer.reserved:
                peer.reserved[job.job_id].acked_at = now
        job.ack_until = None
        job.placed(now)
        if job.state is HeldState.CANCELLING:
            # Cancelled between offer and answer: the order was sent then; say it again.
            self._say_cancel(instance_id, job.run_id, job.job_id, job.cancel_reason)
            return
        if job.state is HeldState.OFFERED:
            job.move(HeldState.ACCEPTED)
            if not job.spoken_of:
                job.spawn_until = now + SPAWN_WINDOW_S
                job.spawn_limit = now + SPAWN_LIMIT_S
            self._rows.attempt(job.job_id, instance_id, "accepted", None)
            self._rows.accepted(job.job_id, instance_id)
            _log.info("Job accepted", extra=_fields(job, peerId=instance_id))

    def _say_cancel(self, instance_id: str, run_id: str, job_id: str, reason: str) -> None:
        order = PeerJobCancel(run_id=run_id, job_id=job_id, reason=reason)
        self._registry.say(instance_id, order)

    def _count_nak(self, job: HeldJob, peer: PeerEntry, reason: str, now: float) -> None:
        delay_s = nak(peer, now)
        fields = _fields(
            job,
            peerId=peer.instance_id,
            jobName=job.name,
            nakCount=peer.n_naks,
            backoffMs=int(delay_s * 1000),
            reason=reason,
            clientState="open" if peer.link is not None else "closed",
        )
        _log.warning("NAK from worker: Peer NAKed job", extra=fields)


def _fields(job: HeldJob, **more: object) -> dict[str, object]:
    return {"runId": job.run_id, "jobId": job.job_id, **more}
