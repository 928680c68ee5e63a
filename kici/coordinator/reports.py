"""What workers say about their jobs, and whose word counts (C43-C48, C53, C61)."""

import logging

from kici.contracts.states import WIRE_TERMINAL, HeldState, WireJobState
from kici.contracts.wire.peer.jobs import (
    JobProgress,
    JobProgressAck,
    JobRerouteAck,
    PeerJobCancel,
    PeerLogChunk,
    ScalerEvent,
)
from kici.coordinator.endings import Endings
from kici.coordinator.job import SPAWN_WINDOW_S, HeldJob
from kici.coordinator.jobs import JobRows
from kici.coordinator.logs import Logs
from kici.coordinator.placement import Placement
from kici.coordinator.registry import Registry
from kici.coordinator.store import StoreError
from kici.coordinator.times import whole
from kici.protocol.nesting import is_too_deep

_log = logging.getLogger("kici.coordinator")
#: Signs of life of a job that no agent has begun.
_NOT_STARTED = frozenset({WireJobState.PENDING, WireJobState.QUEUED})


class Reports:
    """Owns nothing. Told by: the peer server, for each message about a job."""

    def __init__(
        self,
        registry: Registry,
        placement: Placement,
        endings: Endings,
        rows: JobRows,
        logs: Logs,
    ) -> None:
        self._registry = registry
        self._placement = placement
        self._endings = endings
        self._rows = rows
        self._logs = logs

    def ack(self, instance_id: str, message: JobRerouteAck, now: float) -> None:
        """The answer to an offer; a job that was cancelled meanwhile ends with a refusal."""
        refused = self._placement.on_ack(instance_id, message, now)
        if refused is not None:
            self._endings.end(refused, HeldState.CANCELLED, refused.cancel_reason)

    def progress(self, instance_id: str, report: JobProgress, now: float) -> None:
        """A state of a job or step. The end is acknowledged after it is durable, whoever
        reports it; only the holder's words count (C43-C46)."""
        job = self._placement.jobs.get(report.job_id)
        terminal = report.kind == "job" and report.state in WIRE_TERMINAL
        if terminal:
            # The history that tests/chaos/history.py checks: also what changes nothing.
            fields = {"runId": report.run_id, "jobId": report.job_id, "state": report.state}
            _log.debug("Terminal report", extra={**fields, "instanceId": instance_id})
        if job is not None and job.run_id == report.run_id and job.holder == instance_id:
            if not self._apply(job, report, terminal, now):
                return
        elif job is not None and not terminal and instance_id in job.burned:
            # It did take the job that was taken away from it.
            self._registry.say(
                instance_id,
                PeerJobCancel(run_id=job.run_id, job_id=job.job_id, reason="moved elsewhere"),
            )
        if terminal:
            ack = JobProgressAck(run_id=report.run_id, job_id=report.job_id, state=report.state)
            self._registry.say(instance_id, ack)

    def log(self, instance_id: str, chunk: PeerLogChunk, now: float) -> None:
        """Lines of a job, from its holder alone (C44)."""
        job = self._placement.jobs.get(chunk.job_id)
        if job is not None and job.holder == instance_id and job.run_id == chunk.run_id:
            try:
                self._logs.append(chunk.job_id, chunk)
                self._spoken_of(job)
            except StoreError as error:  # the lines are counted; the job's log will say so
                _log.error("Log not stored", extra={"jobId": job.job_id, "error": str(error)})

    def scaler_event(self, instance_id: str, event: ScalerEvent, now: float) -> None:
        """News about the agent that is being made for a job (C48)."""
        job = self._placement.jobs.get(event.job_id)
        if job is None or job.holder != instance_id or job.spawn_until is None:
            return
        self._rows.attempt(job.job_id, instance_id, event.event_type, event.detail)
        if event.event_type == "scaler.failed":
            self._endings.move_elsewhere(
                job, f"agent could not be started: {event.detail[:500]}", now
            )
        else:
            later = max(job.spawn_until, now + SPAWN_WINDOW_S)
            job.spawn_until = min(later, job.spawn_limit)

    def _apply(self, job: HeldJob, report: JobProgress, terminal: bool, now: float) -> bool:
        """Take the holder's word; False when it could not be made durable: then there is no
        acknowledgement and the worker says it again (C45)."""
        try:
            if report.kind == "step":
                self._rows.steps.report(job.job_id, report)
            if terminal:
                return self._endings.end(job, HeldState(report.state), _reason(report), report.data)
            if report.state in _NOT_STARTED and report.kind == "job":
                _log.debug("Job waits at its worker", extra={"jobId": job.job_id})
                self._spoken_of(job)
            elif job.state in (HeldState.OFFERED, HeldState.ACCEPTED):
                job.ack_until = None
                job.placed(now)
                self._rows.running(job.job_id, whole(report.timestamp))
                self._rows.commit()
                job.move(HeldState.RUNNING)
            elif job.state is HeldState.RUNNING and report.kind == "job":
                self._rows.running(job.job_id, whole(report.timestamp))
            job.heard()
        except StoreError as error:
            _log.error("Job update not stored", extra={"jobId": job.job_id, "error": str(error)})
            return False
        self._logs.wake(job.job_id)
        return True

    def _spoken_of(self, job: HeldJob) -> None:
        if not job.spoken_of:
            self._rows.spoken_of(job.job_id)
            job.heard()


def _reason(report: JobProgress) -> str | None:
    data = report.data or {}
    found = data.get("error") or data.get("reason")
    if isinstance(found, dict):
        found = found.get("message")
    if isinstance(found, dict | list) and is_too_deep(found):
        return None
    return str(found)[:2000] if found else None
