"""Jobs and agents as the API tells them. Times are ISO 8601 UTC, durations milliseconds."""

from typing import Any

from kici.contracts.link.views import AgentView, JobView, StepView
from kici.protocol.urls import shown_url
from kici.web.history import Entry
from kici.web.moments import iso


def running_step(job: JobView) -> StepView | None:
    """The step that runs now, else the last one that began."""
    begun = [step for step in job.steps if step.started_at is not None]
    open_steps = [step for step in begun if step.ended_at is None]
    return (open_steps or begun or [None])[-1]


def job_view(job: JobView, now: float) -> dict[str, Any]:
    """A job that has not ended."""
    step = running_step(job)
    return {
        **_names(shown_url(job.key.owner), job.key.run_id, job.key.job_id, job),
        "status": job.state,
        "error": job.error,
        "acceptedAt": iso(job.accepted_at),
        "queueDeadlineAt": iso(job.queue_deadline_at),
        "startedAt": iso(job.started_at),
        "completedAt": None,
        "durationMs": round((now - job.started_at) * 1000) if job.started_at else None,
        "step": step.name if step else None,
        "steps": [
            {
                "index": one.index,
                "name": one.name,
                "status": one.state,
                "startedAt": iso(one.started_at),
                "completedAt": iso(one.ended_at),
            }
            for one in job.steps
        ],
        "logLines": job.n_log_lines,
        "labels": job.labels,
    }


def entry_view(entry: Entry) -> dict[str, Any]:
    """A job that has ended."""
    return {
        **_names(entry.owner, entry.run_id, entry.job_id, entry),
        "status": entry.status,
        "error": entry.error,
        "acceptedAt": iso(entry.accepted_at),
        "startedAt": iso(entry.started_at),
        "completedAt": iso(entry.completed_at),
        "durationMs": entry.duration_ms,
        "steps": [
            {"name": step.name, "status": step.state, "durationMs": step.duration_ms}
            for step in entry.steps
        ],
        "logLines": entry.n_log_lines,
    }


def _names(owner: str, run_id: str, job_id: str, job: JobView | Entry) -> dict[str, Any]:
    return {
        "jobId": job_id,
        "runId": run_id,
        "coordinator": owner,
        "jobName": job.job_name,
        "workflowName": job.workflow_name,
        "repoUrl": job.repo_url,
        "ref": job.ref,
        "sha": job.sha,
        "requestId": job.request_id,
        "agentId": job.agent_id,
        "scaler": job.scaler_name,
        "attempt": job.attempt,
    }


def agent_view(agent: AgentView) -> dict[str, Any]:
    return {
        "agentId": agent.agent_id,
        "state": agent.state,
        "since": iso(agent.since),
        "scaler": agent.scaler_name,
        "labels": agent.labels,
        "activeJobs": agent.active_jobs,
        "maxConcurrency": agent.max_concurrency,
        "version": agent.version,
        "hostname": agent.hostname,
        "reason": agent.reason,
    }
