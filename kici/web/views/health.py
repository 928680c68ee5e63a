"""``GET /health`` and ``GET /ready`` (worker surface 3.3, 3.4)."""

import time

from flask import Blueprint, Response

from kici.web.build import BUILD
from kici.web.desk import desk, iso, reply

blueprint = Blueprint("health", __name__)


@blueprint.get("/health")
def health() -> Response:
    now = time.time()
    return reply(
        {
            "status": "ok",
            "timestamp": iso(now),
            "uptime": max(0.0, round(now - desk().started_at, 6)),
            "role": "worker",
            **BUILD,
        }
    )


@blueprint.get("/ready")
def ready() -> Response:
    """200 in every state: the seed wants no coordinator check here."""
    return reply({"status": "ready", "checks": {}})
