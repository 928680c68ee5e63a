"""The job slot of an agent: dispatch, cancel, and what the executor reports (agent spec 6.2)."""

from typing import Any

from kici.contracts.wire import Number
from kici.contracts.wire.agent.jobs import (
    JobAck,
    JobCancel,
    JobDispatch,
    JobHeartbeat,
    JobReject,
    LogChunk,
    StepStatus,
)
from kici.protocol.agent_outbox import Gap
from kici.protocol.agent_speech import AgentSpeech, CancelJob, Job, RunJob
from kici.protocol.machine import Actions, Note


class AgentSlot(AgentSpeech):
    """Owns: the running job and the one that waits for its clean-up."""

    def job_log(
        self, step_index: int, lines: tuple[str, ...], stream: str, at_ms: Number, now: float
    ) -> Actions:
        """Masked lines of the running job, in order."""
        if self._job is None:
            return []
        job = self._job
        first_line = job.n_lines.get(step_index, 0)
        job.n_lines[step_index] = first_line + len(lines)
        chunk = LogChunk(
            message_id=self._new_id(),
            run_id=job.run_id,
            job_id=job.job_id,
            step_index=step_index,
            lines=lines,
            timestamp=at_ms,
            stream=stream or None,
            first_line=first_line,
        )
        gap = Gap(job.run_id, job.job_id, step_index)
        return self._keep(chunk, now, n_lines=len(lines), gap=gap, first_line=first_line)

    def job_step(
        self,
        step_index: int,
        step_name: str,
        state: str,
        now: float,
        *,
        data: dict[str, Any] | None = None,
        secrets_accessed: tuple[str, ...] | None = None,
        log_bytes: int | None = None,
    ) -> Actions:
        if self._job is None:
            return []
        status = StepStatus(
            message_id=self._new_id(),
            run_id=self._job.run_id,
            job_id=self._job.job_id,
            step_index=step_index,
            step_name=step_name,
            state=state,
            timestamp=self._wall_ms(),
            data=data,
            secrets_accessed=secrets_accessed,
            log_bytes_streamed=log_bytes,
        )
        return self._keep(status, now)

    def job_finished(self, state: str, data: dict[str, Any], now: float) -> Actions:
        """The one terminal status of the running job (A90)."""
        job = self._job
        if job is None or job.finished:
            return []
        job.finished = True
        if job.n_lines:
            # The tail of a log has nothing behind it that shows a gap: its length does.
            data = {**data, "logLines": {str(step): n for step, n in job.n_lines.items()}}
        status = self._status(job, state, data)
        return self._keep(status, now, ends_job=(job.run_id, job.job_id))

    def job_cleaned(self, now: float) -> Actions:
        """Nothing of the job is left on this machine: the slot is free."""
        self._job = None
        self._timers.clear("job_heartbeat")
        actions = self._agent_status()
        if self._next is not None:
            dispatch, self._next = self._next, None
            return actions + self._begin(dispatch, now)
        self._arm_idle(now, self.identity.idle_timeout_s)
        return actions + self._leave_if_done(now)

    def _on_dispatch(self, dispatch: JobDispatch, now: float) -> Actions:
        if (dispatch.run_id, dispatch.job_id) in self._held():
            return self._ack(dispatch)
        if self._draining:
            return self._reject(dispatch.run_id, dispatch.job_id, "draining")
        if self._job is not None and self._job.finished and self._next is None:
            # Only the clean-up of the last job is still under way.
            self._next = dispatch
            return self._ack(dispatch)
        if self._job is not None:
            return self._reject(dispatch.run_id, dispatch.job_id, "busy")
        return self._ack(dispatch) + self._begin(dispatch, now)

    def _held(self) -> list[tuple[str, str]]:
        """The jobs that this agent has acknowledged and not cleaned up: (run id, job id)."""
        held = (self._job, self._next)
        return [(job.run_id, job.job_id) for job in held if job is not None]

    def _at_work(self) -> list[tuple[str, str]]:
        """Those whose end was not said yet."""
        n_finished = 1 if self._job is not None and self._job.finished else 0
        return self._held()[n_finished:]

    def _give_up_next(self, state: str, reason: str, now: float) -> Actions:
        """The job that waits for the clean-up, if there is one, ends before it began."""
        waiting, self._next = self._next, None
        if waiting is None:
            return []
        job = Job(waiting.run_id, waiting.job_id)
        status = self._status(job, state, {"durationMs": 0, "error": reason})
        return self._keep(status, now, ends_job=(job.run_id, job.job_id))

    def _begin(self, dispatch: JobDispatch, now: float) -> Actions:
        self._job = Job(dispatch.run_id, dispatch.job_id)
        self._recent = {}
        self._timers.clear("idle")
        self._timers.set("job_heartbeat", now + self.identity.job_heartbeat_s)
        running = self._status(self._job, "running", None)
        return [*self._keep(running, now), RunJob(dispatch)]

    def _on_cancel(self, cancel: JobCancel, now: float) -> Actions:
        key = (cancel.run_id, cancel.job_id)
        if self._next is not None and (self._next.run_id, self._next.job_id) == key:
            return self._give_up_next("cancelled", cancel.reason, now)
        job_now = self._job
        if job_now is None or (job_now.run_id, job_now.job_id) != key or job_now.finished:
            return [Note("info", "Cancel for a job that is not running here", {})]
        job_now.n_cancels += 1
        force = cancel.force is True or job_now.n_cancels > 1
        return [CancelJob(cancel.reason, force)]

    def _ack(self, dispatch: JobDispatch) -> Actions:
        return self._say(
            JobAck(
                message_id=self._new_id(),
                run_id=dispatch.run_id,
                job_id=dispatch.job_id,
                timestamp=self._wall_ms(),
            )
        )

    def _reject(self, run_id: str, job_id: str, reason: str) -> Actions:
        reject = JobReject(
            message_id=self._new_id(),
            run_id=run_id,
            job_id=job_id,
            timestamp=self._wall_ms(),
            reason=reason,
        )
        return self._say(reject) + self._agent_status()

    def _on_job_heartbeat(self, now: float) -> Actions:
        if self._job is None:
            return []
        self._timers.set("job_heartbeat", now + self.identity.job_heartbeat_s)
        job = self._job
        return self._say(
            JobHeartbeat(run_id=job.run_id, job_id=job.job_id, timestamp=self._wall_ms())
        )
