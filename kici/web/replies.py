"""How views reach the state of the process and write their answers."""

from typing import Any

import msgspec
from flask import Response, current_app
from werkzeug.exceptions import HTTPException

from kici.web.desk import Desk
from kici.web.door import NOT_FOUND
from kici.web.probes import JSON, Answer


def desk() -> Desk:
    """The state of the application that handles the current request."""
    found: Desk = current_app.extensions["kici"]
    return found


def reply(body: Any, status: int = 200) -> Response:
    """``body`` as compact JSON, keys in the order given."""
    return Response(msgspec.json.encode(body), status, content_type=JSON)


def not_found(_error: HTTPException | None = None) -> Response:
    """Wrong path, method or trailing slash: one answer (worker surface 3.1)."""
    return respond(NOT_FOUND)


def respond(answer: Answer) -> Response:
    """An answer of the door, given by Flask."""
    return Response(answer.body, answer.status, content_type=answer.content_type)
