"""``GET /health`` and ``GET /ready`` (worker surface 3.3, 3.4)."""

import time

from flask import Blueprint, Response, request

from kici.web.build import BUILD
from kici.web.desk import desk, iso, reply
from kici.web.readiness import strict_checks

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
    """200 in every state, as the seed wants; with ``strict=1`` 503 and the reasons."""
    if request.args.get("strict", "") not in ("1", "true"):
        return reply({"status": "ready", "checks": {}})
    checks = strict_checks(desk())
    bad = any(check != "ok" for check in checks.values())
    return reply({"status": "not ready" if bad else "ready", "checks": checks}, 503 if bad else 200)
