"""``GET /cluster/health``, the worker's flavour (worker surface 3.6)."""

from flask import Blueprint, Response

from kici.web import summary
from kici.web.replies import desk, reply

blueprint = Blueprint("cluster", __name__)


@blueprint.get("/cluster/health")
def cluster_health() -> Response:
    here = desk()
    n_all, n_up = len(summary.urls(here)), summary.n_connected(here)
    return reply(
        {
            "status": "down" if n_up == 0 else "healthy" if n_up == n_all else "degraded",
            "instanceId": here.settings.instance_id,
            "role": "worker",
            "term": 0,
            "leaderId": None,
            "peerCount": n_all,
            "connectedPeers": n_up,
            "agentCount": summary.agent_counts(here)["total"],
            "activeRuns": summary.n_runs(here),
        }
    )
