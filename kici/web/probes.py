"""``GET /health``, ``/ready`` and ``/metrics``: what machines ask day and night, without Flask.

A probe gets the query string and answers with a status and, as the answer's body, bytes.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

import msgspec

from kici.web.build import BUILD
from kici.web.desk import Desk
from kici.web.metrics import render
from kici.web.moments import iso
from kici.web.readiness import strict_checks

JSON = "application/json"
METRICS = "text/plain; version=0.0.4; charset=utf-8"


class Answer(msgspec.Struct, frozen=True):
    """``status`` as the head of the answer says it, with its words."""

    body: bytes
    content_type: str = JSON
    status: str = "200 OK"


Probe = Callable[[Desk, str], Answer]


def health(desk: Desk, _query: str) -> Answer:
    """Worker surface 3.3."""
    now = time.time()
    return _json(
        {
            "status": "ok",
            "timestamp": iso(now),
            "uptime": max(0.0, round(now - desk.started_at, 6)),
            "role": "worker",
            **BUILD,
        }
    )


def ready(desk: Desk, query: str) -> Answer:
    """200 in every state, as the seed wants (worker surface 3.4); with ``strict=1`` 503 and
    the reasons."""
    if parse_qs(query).get("strict", [""])[0] not in ("1", "true"):
        return _json({"status": "ready", "checks": {}})
    checks = strict_checks(desk)
    if all(check == "ok" for check in checks.values()):
        return _json({"status": "ready", "checks": checks})
    return _json({"status": "not ready", "checks": checks}, "503 Service Unavailable")


def metrics(desk: Desk, _query: str) -> Answer:
    """Prometheus text (ours; a reference worker has none)."""
    return Answer(render(desk), METRICS)


PROBES: Mapping[str, Probe] = {"/health": health, "/ready": ready, "/metrics": metrics}


def _json(body: dict[str, Any], status: str = "200 OK") -> Answer:
    return Answer(msgspec.json.encode(body), JSON, status)
