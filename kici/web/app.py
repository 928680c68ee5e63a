"""The Flask application: everything that is not a probe (``door.py``)."""

import logging
import time
from collections.abc import Callable

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from kici.web import views
from kici.web.desk import Desk
from kici.web.door import CRASHED, CROSS_SITE
from kici.web.filters import FILTERS
from kici.web.probes import PROBES
from kici.web.protect import WRITING, Bucket, same_site, token_matches
from kici.web.replies import not_found, reply, respond

logger = logging.getLogger("kici.web")


def make_app(state: Desk, own: tuple[str, ...]) -> Flask:
    """The application with every route under the configured base path. ``own``: names of
    this host that a request may come to."""
    app = Flask("kici.web", static_folder=None)
    app.extensions["kici"] = state
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False  # OPTIONS is 404 (W85)
    app.jinja_env.filters.update(FILTERS)
    app.jinja_env.trim_blocks = True
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    base = state.settings.path_prefix
    for blueprint in views.BLUEPRINTS:
        prefix = (base + (blueprint.url_prefix or "")) or None
        app.register_blueprint(blueprint, url_prefix=prefix)
    for path in PROBES:  # links to what the door answers
        app.add_url_rule(base + path, path.strip("/"), build_only=True)
    app.before_request(_guard(state, own))
    app.register_error_handler(404, not_found)
    app.register_error_handler(405, not_found)
    app.register_error_handler(Exception, _crashed)
    return app


def _guard(state: Desk, own: tuple[str, ...]) -> Callable[[], Response | None]:
    bucket = Bucket()

    def guard() -> Response | None:
        """The refusal of this request, or None."""
        if request.method not in WRITING or request.url_rule is None:
            return None
        return _refuse_write(state, own, bucket)

    return guard


def _refuse_write(state: Desk, own: tuple[str, ...], bucket: Bucket) -> Response | None:
    if not same_site(request.headers, own):
        return respond(CROSS_SITE)
    token = state.settings.admin_token
    if token is not None and not token_matches(
        token.reveal(), request.headers.get("Authorization"), request.form.get("token")
    ):
        refused = reply({"error": "admin token required"}, 401)
        refused.headers["WWW-Authenticate"] = "Bearer"
        return refused
    if not bucket.take(time.monotonic()):
        slow = reply({"error": "too many requests"}, 429)
        slow.headers["Retry-After"] = "5"
        return slow
    return None


def _crashed(error: Exception) -> Response | HTTPException:
    if isinstance(error, HTTPException):
        return error
    logger.error("Unhandled request error", exc_info=error)
    return respond(CRASHED)
