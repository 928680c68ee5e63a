"""``POST /drain`` (worker surface 3.7) and, ours, ``DELETE /drain``.

The reference ignores every body, so a body that is no wish of ours is ignored as well;
only a wish that is understood and impossible is answered 400.
"""

from flask import Blueprint, Response, redirect, request, url_for

from kici.contracts.link.lifecycle import DrainRequest, UndrainRequest
from kici.web import summary
from kici.web.replies import desk, reply
from kici.web.wishes import BadWish, drain_wish, wish_fields

blueprint = Blueprint("drain", __name__)


@blueprint.post("/drain")
def drain() -> Response:
    here = desk()
    fields = wish_fields(request)
    if fields.get("wish") == "undrain":  # a form cannot send DELETE
        return undrain()
    try:
        reason, deadline_s = drain_wish(fields)
    except BadWish as error:
        return reply({"error": str(error)}, 400)
    here.tell("supervisor", DrainRequest(source="http", reason=reason, deadline_s=deadline_s))
    return _answer(draining=True)


@blueprint.delete("/drain")
def undrain() -> Response:
    desk().tell("supervisor", UndrainRequest(source="http"))
    return _answer(draining=False)


def _answer(draining: bool) -> Response:
    if "text/html" in request.headers.get("Accept", ""):
        return redirect(url_for("page.page"), 303)  # the page's form, without JavaScript
    return reply({"draining": draining, "activeJobs": summary.n_active_jobs(desk())})
