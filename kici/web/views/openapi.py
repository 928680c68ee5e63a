"""``GET /api/v1/openapi.yaml``: this surface, described for machines."""

from pathlib import Path

from flask import Blueprint, Response

blueprint = Blueprint("openapi", __name__, url_prefix="/api/v1")
#: Read once before the fork.
DOCUMENT = (Path(__file__).parents[1] / "openapi.yaml").read_bytes()


@blueprint.get("/openapi.yaml")
def openapi() -> Response:
    return Response(DOCUMENT, content_type="application/yaml")
