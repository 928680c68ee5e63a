"""``GET /status`` (worker surface 3.5): the seed's keys first, then ours."""

import time

from flask import Blueprint, Response

from kici.contracts.link.lifecycle import ChildState, DrainState, ReloadResult
from kici.contracts.link.views import PoolCapacity
from kici.web import summary
from kici.web.build import BUILD
from kici.web.replies import desk, reply

blueprint = Blueprint("status", __name__)


@blueprint.get("/status")
def status() -> Response:
    here, now = desk(), time.time()
    projection = here.projection
    links = summary.links(here)
    return reply(
        {
            "instanceId": here.settings.instance_id,
            "role": "worker",
            "coordinatorConnection": links[0].state if links else "disconnected",
            "draining": summary.is_draining(here),
            "uptimeSeconds": max(0, int(now - here.started_at)),
            "agents": summary.agent_counts(here),
            "activeJobs": summary.n_active_jobs(here),
            "recentJobs": [
                summary.recent_job(entry) for entry in here.history.newest(summary.RECENT)
            ],
            "version": BUILD["version"],
            "coordinators": [summary.link_view(link) for link in links],
            "drain": summary.drain_view(projection.one(DrainState)),
            **summary.capacity_view(projection.one(PoolCapacity)),
            **summary.storage_view(here),
            "processes": [summary.child_view(child) for child in projection.all(ChildState, now)],
            "sources": [summary.source_view(source) for source in projection.sources(now)],
            "lastReload": summary.reload_view(projection.one(ReloadResult)),
            "loki": here.shipper.facts() if here.shipper else None,
            "historyError": here.history.error or None,
        }
    )
