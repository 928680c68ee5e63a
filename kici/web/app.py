"""The Flask application, made once a process."""

import logging

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from kici.web import views
from kici.web.desk import Desk, not_found, reply

logger = logging.getLogger("kici.web")


def make_app(state: Desk) -> Flask:
    """The application with every route under the configured base path."""
    app = Flask("kici.web", static_folder=None)
    app.extensions["kici"] = state
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False  # OPTIONS is 404 (W85)
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    prefix = "/" + state.settings.base_path.strip("/")
    for blueprint in views.BLUEPRINTS:
        app.register_blueprint(blueprint, url_prefix=None if prefix == "/" else prefix)
    app.before_request(_refuse_double_slash)
    app.register_error_handler(404, not_found)
    app.register_error_handler(405, not_found)
    app.register_error_handler(Exception, _crashed)
    return app


def _refuse_double_slash() -> Response | None:
    """Werkzeug strips leading slashes before it matches; ``//health`` is no route."""
    return not_found() if request.environ["PATH_INFO"].startswith("//") else None


def _crashed(error: Exception) -> Response | HTTPException:
    if isinstance(error, HTTPException):
        return error
    logger.error("Unhandled request error", exc_info=error)
    return reply({"error": "Internal server error"}, 500)
