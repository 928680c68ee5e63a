"""The Flask application: made once a process by ``make_app``; views find their state here."""

import logging
import time
from typing import Any, Protocol

import msgspec
from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException

from kici.config.model import Config
from kici.contracts.link import Message
from kici.web.history import History
from kici.web.projection import Projection

logger = logging.getLogger("kici.web")


class Tell(Protocol):
    def __call__(self, to: str, message: Message) -> None: ...


class Desk:
    """What views read and the one thing they can do. Owns: nothing; told by: ``main``.

    ``started_at`` is the start of the whole worker (wall clock, seconds), not of this child.
    """

    def __init__(self, config: Config, history: History, tell: Tell, started_at: float) -> None:
        self.settings = config.settings
        self.scalers = config.scalers
        self.projection = Projection()
        self.history = history
        self.tell = tell
        self.started_at = started_at


def desk() -> Desk:
    """The state of the application that handles the current request."""
    found: Desk = current_app.extensions["kici"]
    return found


def reply(body: Any, status: int = 200) -> Response:
    """``body`` as compact JSON, keys in the order given."""
    return Response(msgspec.json.encode(body), status, content_type="application/json")


def not_found(_error: HTTPException | None = None) -> Response:
    """Wrong path, method or trailing slash: one answer (worker surface 3.1)."""
    return Response("404 Not Found", 404, content_type="text/plain; charset=UTF-8")


def iso(seconds: float | None) -> str | None:
    """Wall-clock seconds as ISO 8601 UTC with milliseconds."""
    if seconds is None:
        return None
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{milliseconds:03d}Z"


def make_app(state: Desk) -> Flask:
    """The application with every route under the configured base path."""
    from kici.web import views

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
