"""``GET /metrics``: Prometheus text (ours; a reference worker has none)."""

from flask import Blueprint, Response

from kici.web.desk import desk
from kici.web.metrics import render

blueprint = Blueprint("metrics", __name__)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@blueprint.get("/metrics")
def metrics() -> Response:
    return Response(render(desk()), content_type=CONTENT_TYPE)
