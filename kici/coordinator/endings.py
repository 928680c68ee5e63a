"""How a job leaves its holder or ends, and in which order that is made durable."""

import logging
from typing import Any

from kici.contracts.states import HELD_ENDED, HeldState
from kici.contracts.wire.peer.jobs import PeerJobCancel
from kici.coordinator.job import HeldJob
from kici.coordinator.jobs import JobRows
from kici.coordinator.logs import Logs
from kici.coordinator.placement import Placement
from kici.coordinator.registry import Registry
from kici.coordinator.store import StoreError

_log = logging.getLogger("kici.coordinator")


class Endings:
    """Owns nothing; used by the dispatcher and by the reports."""

    def __init__(self, registry: Registry, placement: Placement, rows: JobRows, logs: Logs) -> None:
        self._registry = registry
        self._placement = placement
        self._rows = rows
        self._logs = logs

    def end(self, job: HeldJob, state: HeldState, reason: str | None, data: Any = None) -> bool:
        """Durable first, then forgotten here. False when the store refused."""
        assert state in HELD_ENDED
        try:
            n_dropped = self._rows.steps.n_dropped(job.job_id)
            notes = [f"{n_dropped} reports about steps were not kept"] if n_dropped else []
            self._logs.finish(job.job_id, (data or {}).get("logLines"), notes)
            self._rows.ended(job.job_id, state, reason, data)
        except StoreError as error:
            _log.error("Job end not stored", extra={"jobId": job.job_id, "error": str(error)})
            return False
        job.move(state)
        self._placement.drop(job)
        self._logs.forget(job.job_id)
        self._logs.wake(job.job_id)
        fields = {"runId": job.run_id, "jobId": job.job_id, "state": str(state)}
        _log.info("Job ended", extra={**fields, "reason": reason} if reason else fields)
        return True

    def send_cancel(self, job: HeldJob, *, force: bool = False, reason: str = "") -> None:
        order = PeerJobCancel(
            run_id=job.run_id,
            job_id=job.job_id,
            reason=reason or job.cancel_reason,
            force=True if force else None,
        )
        self._registry.say(job.holder, order)

    def move_elsewhere(self, job: HeldJob, reason: str, now: float) -> None:
        """C47: the holder drops it; others get it; with nobody left it fails."""
        self._placement.take_away(job, "moved", reason)
        if self._placement.offer(job, now) or self._placement.can_wait(job):
            return
        self.end(
            job,
            HeldState.FAILED,
            f"reroute re-dispatch found no available backend after spawn failure ({reason})",
        )
