"""The life of each job: submitted, placed, reported, cancelled, ended (peer spec 5.7).

Every time-out is judged in ``tick`` by monotonic time; the shell calls it about once a second.
"""

import logging
import uuid
from sqlite3 import Row

import msgspec

from kici.contracts.states import HeldState
from kici.contracts.wire.peer.jobs import JobReroute
from kici.coordinator.document import JobSpec
from kici.coordinator.endings import Endings
from kici.coordinator.job import (
    CANCEL_DEADLINE_S,
    HOLDER_GRACE_S,
    PLACED,
    QUEUE_TIMEOUT_S,
    RETURN_WINDOW_S,
    HeldJob,
    held_job,
)
from kici.coordinator.jobs import JobRows
from kici.coordinator.logs import Logs
from kici.coordinator.placement import Placement
from kici.coordinator.registry import Registry
from kici.coordinator.reports import Reports
from kici.coordinator.reroute import make_reroute
from kici.coordinator.store import StoreError
from kici.coordinator.vault import Vault
from kici.protocol.labels import BadLabels

_log = logging.getLogger("kici.coordinator")
#: Jobs that have not ended; a submission beyond it is refused.
MAX_ACTIVE = 10_000


class TooManyJobs(Exception):
    """``MAX_ACTIVE`` jobs have not ended."""


class Dispatcher:
    """Owns: what happens to jobs. Told by: the API (wishes) and the peers (reports)."""

    def __init__(
        self, registry: Registry, rows: JobRows, logs: Logs, vault: Vault, instance_id: str
    ) -> None:
        self._registry = registry
        self._rows = rows
        self._logs = logs
        self._vault = vault
        self._instance_id = instance_id
        self.placement = Placement(registry, rows, instance_id)
        self._endings = Endings(registry, self.placement, rows, logs)
        self.reports = Reports(registry, self.placement, self._endings, rows, logs)
        self.draining = False

    # --- wishes ----------------------------------------------------------------------

    def recover(self, now: float) -> None:
        """After a start: jobs go on where they were; holders get a full reconnect period to
        come back before anything is judged (C52, C59)."""
        for row in self._rows.active():
            job = self._opened(row, now)
            if job is None:
                self._unreadable(row["job_id"])
                continue
            self.placement.jobs[job.job_id] = job
            job.burned = self._rows.burned(job.job_id)
            job.state = HeldState(row["state"])
            job.holder = row["holder"]
            job.spoken_of = row["progress_at"] is not None
            if job.state is HeldState.QUEUED:
                continue
            job.placed(now)
            job.gone_until = now + HOLDER_GRACE_S
            if job.state is HeldState.CANCELLING:
                job.cancel_until = now + HOLDER_GRACE_S + CANCEL_DEADLINE_S

    def _opened(self, row: Row, now: float) -> HeldJob | None:
        """The job of a row; None without its key, or when it was written by a version that
        wrote, or could read, something else."""
        timeout_ms = row["timeout_ms"]
        try:
            opened = self._vault.open(row["job_id"], row["sealed"] or b"")
            if opened is None:
                return None
            return held_job(
                msgspec.json.decode(opened, type=JobReroute),
                timeout_s=timeout_ms / 1000 if timeout_ms else None,
                now=now,
            )
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, BadLabels, IndexError):
            return None

    def _unreadable(self, job_id: str) -> None:
        why = "its sealed payload cannot be read"
        _log.error("Job cannot go on", extra={"jobId": job_id, "why": why})
        try:
            self._rows.ended(job_id, HeldState.FAILED, why, None)
        except StoreError as error:  # the next start finds it again
            _log.error("Database refused", extra={"error": str(error)})

    def submit(self, spec: JobSpec, run_id: str | None, now: float) -> HeldJob:
        """A new job, durable when this returns, and offered at once if anybody can."""
        if len(self.placement.jobs) >= MAX_ACTIVE:
            raise TooManyJobs
        job_id, run_id = str(uuid.uuid4()), run_id or str(uuid.uuid4())
        reroute = make_reroute(spec, run_id=run_id, job_id=job_id, coordinator_id=self._instance_id)
        sealed = self._vault.seal(job_id, msgspec.json.encode(reroute))
        timeout_s = spec.timeout_ms / 1000 if spec.timeout_ms else None
        job = held_job(reroute, timeout_s=timeout_s, now=now)
        self._rows.add(
            job_id, run_id, spec.name, spec.workflow, spec.labels, spec.timeout_ms, sealed
        )
        self.placement.jobs[job_id] = job
        try:
            if not self.draining:
                self.placement.offer(job, now)
            self._rows.commit()
        except StoreError:
            # Nothing was promised and nothing was sent: an offer is durable before it is.
            del self.placement.jobs[job_id]
            raise
        _log.info("Job queued", extra={"runId": run_id, "jobId": job_id, "jobName": spec.name})
        return job

    def cancel(self, job_id: str, reason: str, force: bool, now: float) -> bool:
        """Cancel a job; False when it has ended or is unknown (C51)."""
        job = self.placement.jobs.get(job_id)
        if job is None:
            return False
        if job.state is HeldState.QUEUED:
            self._endings.end(job, HeldState.CANCELLED, reason)
            return True
        self._rows.move(job_id, HeldState.CANCELLING, job.holder)
        job.cancel_reason = reason
        job.cancel_until = job.cancel_until or now + CANCEL_DEADLINE_S
        job.spawn_until = None
        job.move(HeldState.CANCELLING)
        self._endings.send_cancel(job, force=force)
        return True

    # --- peers -----------------------------------------------------------------------

    def joined(self, instance_id: str, now: float) -> None:
        """The peer is back: its jobs are no longer in danger; what it had not answered is
        offered again, what it shall cancel is said again."""
        peer = self._registry.get(instance_id)
        held = list(self.placement.held_by(instance_id))
        for job in held:
            job.gone_until = None
        for job in held:
            if job.state is HeldState.ACCEPTED and not job.spoken_of:
                # It may have come back without it (C47).
                job.spawn_until = job.spawn_limit = now + RETURN_WINDOW_S
            elif job.state is HeldState.CANCELLING:
                self._endings.send_cancel(job)
            elif job.state is HeldState.OFFERED and peer is not None:
                try:
                    self.placement.offer_again(job, peer, now)
                except StoreError as error:
                    _log.error("Database refused", extra={"error": str(error)})

    def left(self, instance_id: str, now: float) -> None:
        """The peer's connection is over; its jobs wait for it (C49)."""
        for job in self.placement.held_by(instance_id):
            if job.state in PLACED:
                job.gone_until = now + HOLDER_GRACE_S
                # Its first progress may be lost with the link: its return begins a longer one.
                job.spawn_until = None

    # --- time ------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Judge every deadline, then offer what waits. What the store refuses now (a full
        disk) is tried again at the next tick."""
        try:
            for job in list(self.placement.jobs.values()):
                self._judge(job, now)
            if not self.draining:
                self.placement.offer_all(now)
        except StoreError as error:
            _log.error("Database refused", extra={"error": str(error)})

    def _judge(self, job: HeldJob, now: float) -> None:
        if job.state is HeldState.QUEUED:
            if now - job.waiting_since >= QUEUE_TIMEOUT_S:
                self._endings.end(job, HeldState.FAILED, f"nobody took the job: {job.why}")
        elif _over(job.ends_at, now):
            self._endings.send_cancel(job, reason="job deadline is over")
            self._endings.end(job, HeldState.TIMED_OUT_STALE, "job deadline is over")
        elif _over(job.gone_until, now):
            self._holder_lost(job, now)
        elif job.state is HeldState.CANCELLING:
            if _over(job.cancel_until, now):
                why = "the worker did not report the end in time"
                self._endings.end(job, HeldState.CANCELLED, why)
        elif job.state is HeldState.OFFERED:
            if _over(job.ack_until, now):
                self.placement.timed_out(job, now)
        elif _over(job.spawn_until, now) and job.gone_until is None:
            self._endings.move_elsewhere(job, "reroute spawn window elapsed", now)

    def _holder_lost(self, job: HeldJob, now: float) -> None:
        if job.state is HeldState.OFFERED:  # recovered, and its peer never came back
            self.placement.timed_out(job, now)
        elif job.state is HeldState.CANCELLING:
            self._endings.end(job, HeldState.CANCELLED, "worker lost after the job was cancelled")
        else:
            self._endings.end(job, HeldState.FAILED, f"worker lost: {job.holder}")


def _over(until: float | None, now: float) -> bool:
    return until is not None and now >= until
