"""``/api/v1``: what is known, as JSON and as server-sent events (ours; openapi.yaml)."""

import time

from flask import Blueprint, Response, request

from kici.contracts.link.views import AgentView, JobView
from kici.web import streams
from kici.web.jobviews import agent_view, entry_view, job_view
from kici.web.moments import iso
from kici.web.projection import newest_first
from kici.web.replies import desk, reply

blueprint = Blueprint("api", __name__, url_prefix="/api/v1")

#: Ended jobs in one answer.
MAX_LIMIT = 500


@blueprint.get("/jobs")
def jobs() -> Response:
    here, now = desk(), time.time()
    limit = min(MAX_LIMIT, max(0, request.args.get("limit", 50, type=int)))
    open_jobs = newest_first(here.projection.all(JobView, now))
    return reply(
        {
            "jobs": [job_view(job, now) for job in open_jobs],
            "history": [entry_view(entry) for entry in here.history.newest(limit)],
            "historyTruncated": len(here.history) > limit,
        }
    )


@blueprint.get("/jobs/<job_id>/log")
def job_log(job_id: str) -> Response:
    """A stream of ``log`` events until the job ends (``end``)."""
    return streams.answer(lambda: streams.log_stream(desk(), job_id))


@blueprint.get("/agents")
def agents() -> Response:
    rows = desk().projection.all(AgentView, time.time())
    return reply({"agents": [agent_view(agent) for agent in rows]})


@blueprint.get("/refusals")
def refusals() -> Response:
    """The last jobs that were not taken, newest first, and why."""
    rows = reversed(desk().projection.refusals)
    return reply(
        {
            "refusals": [
                {
                    "at": iso(row.at),
                    "jobName": row.job_name,
                    "labels": row.labels,
                    "reason": row.reason,
                }
                for row in rows
            ]
        }
    )


@blueprint.get("/events")
def events() -> Response:
    """A stream of ``change`` events, at most two a second."""
    return streams.answer(lambda: streams.change_stream(desk()))


@blueprint.get("/debug/events")
def debug_events() -> Response:
    """What happened lately, for a bug report."""
    return reply({"events": desk().events.all()})
