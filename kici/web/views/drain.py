"""``POST /drain`` (worker surface 3.7) and, ours, ``DELETE /drain``.

The reference ignores every body, so a body that is no wish of ours is ignored as well;
only a wish that is understood and impossible is answered 400.
"""

from flask import Blueprint, Response, request

from kici.contracts.link.lifecycle import DrainRequest, UndrainRequest
from kici.web import summary
from kici.web.desk import desk, reply
from kici.web.wishes import BadWish, drain_wish, wish_fields

blueprint = Blueprint("drain", __name__)


@blueprint.post("/drain")
def drain() -> Response:
    here = desk()
    try:
        reason, deadline_s = drain_wish(wish_fields(request))
    except BadWish as error:
        return reply({"error": str(error)}, 400)
    here.tell("supervisor", DrainRequest(source="http", reason=reason, deadline_s=deadline_s))
    return _answer(draining=True)


@blueprint.delete("/drain")
def undrain() -> Response:
    desk().tell("supervisor", UndrainRequest(source="http"))
    return _answer(draining=False)


def _answer(draining: bool) -> Response:
    return reply({"draining": draining, "activeJobs": summary.n_active_jobs(desk())})
