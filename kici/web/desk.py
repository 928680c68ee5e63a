"""What views share: the state of the process, and how answers are written."""

from typing import Any, Protocol

import msgspec
from flask import Response, current_app
from werkzeug.exceptions import HTTPException

from kici.config.model import Config
from kici.contracts.link import Message
from kici.web.events import Events
from kici.web.feed import Feed
from kici.web.history import History
from kici.web.moments import iso
from kici.web.projection import Projection
from kici.web.shipper import Shipper
from kici.web.tally import Tally

__all__ = ["Desk", "Drawn", "Tell", "desk", "iso", "not_found", "reply"]


class Tell(Protocol):
    def __call__(self, to: str, message: Message) -> None: ...


class Drawn(msgspec.Struct, frozen=True):
    """The page's parts as of one version of the projection: several browsers look at once,
    and drawing costs a Raspberry Pi tens of milliseconds."""

    version: int
    at: float
    body: bytes


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
        self.tally = Tally()
        self.events = Events()
        self.drawn: Drawn | None = None
        #: None where nothing is shipped to Loki.
        self.shipper: Shipper | None = None
        self.feed = Feed(lambda watch: tell("pool", watch))


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
