"""``POST /api/v1/reload``: read the configuration again, as SIGHUP does (ours)."""

from flask import Blueprint, Response

from kici.contracts.link.lifecycle import ReloadRequest
from kici.web.replies import desk, reply

blueprint = Blueprint("reload", __name__, url_prefix="/api/v1")


@blueprint.post("/reload")
def reload() -> Response:
    """Asked for; ``/status`` says later in ``lastReload`` what came of it."""
    desk().tell("supervisor", ReloadRequest(source="http"))
    return reply({"requested": True}, 202)
