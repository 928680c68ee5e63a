"""What all answers share: the state of the process."""

from typing import Protocol

import msgspec

from kici.config.model import Config
from kici.contracts.link import Message
from kici.web.events import Events
from kici.web.feed import Feed
from kici.web.history import History
from kici.web.projection import Projection
from kici.web.shipper import Shipper
from kici.web.tally import Tally


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
