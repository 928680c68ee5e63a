"""The Flask application, made once a process."""

import logging
import socket
import time
from collections.abc import Callable

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from kici.web import views
from kici.web.desk import Desk, not_found, reply
from kici.web.filters import FILTERS
from kici.web.protect import (
    SECURITY_HEADERS,
    WRITING,
    Bucket,
    host_allowed,
    same_site,
    token_matches,
)

logger = logging.getLogger("kici.web")


def make_app(state: Desk) -> Flask:
    """The application with every route under the configured base path."""
    app = Flask("kici.web", static_folder=None)
    app.extensions["kici"] = state
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False  # OPTIONS is 404 (W85)
    app.jinja_env.filters.update(FILTERS)
    app.jinja_env.trim_blocks = True
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    base = "/" + state.settings.base_path.strip("/")
    for blueprint in views.BLUEPRINTS:
        prefix = (base.rstrip("/") + (blueprint.url_prefix or "")) or None
        app.register_blueprint(blueprint, url_prefix=prefix)
    app.before_request(_guard(state))
    app.after_request(_add_headers)
    app.register_error_handler(404, not_found)
    app.register_error_handler(405, not_found)
    app.register_error_handler(Exception, _crashed)
    return app


def _guard(state: Desk) -> Callable[[], Response | None]:
    own = (socket.gethostname().lower(), *(host.lower() for host in state.settings.allowed_hosts))
    bucket = Bucket()

    def guard() -> Response | None:
        """The refusal of this request, or None."""
        if request.environ["PATH_INFO"].startswith("//"):
            return not_found()  # Werkzeug would strip the slashes and find a route
        if not host_allowed(request.environ.get("HTTP_HOST"), own):
            return reply({"error": "unknown Host; see KICI_ALLOWED_HOSTS"}, 421)
        if request.method not in WRITING or request.url_rule is None:
            return None
        return _refuse_write(state, own, bucket)

    return guard


def _refuse_write(state: Desk, own: tuple[str, ...], bucket: Bucket) -> Response | None:
    if not same_site(request.headers, own):
        return reply({"error": "cross-site request refused"}, 403)
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


def _add_headers(response: Response) -> Response:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _crashed(error: Exception) -> Response | HTTPException:
    if isinstance(error, HTTPException):
        return error
    logger.error("Unhandled request error", exc_info=error)
    return reply({"error": "Internal server error"}, 500)
