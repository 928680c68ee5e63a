"""The seam between a connection to a coordinator and the desk that holds the jobs."""

from typing import Protocol

import msgspec

from kici.contracts.link import JobKey, Message
from kici.protocol.log_collection import Collect
from kici.protocol.peer_actions import Joined, Offered, Receipted


class Desk(Protocol):
    """What a connection hands over (``peer/desk.py``)."""

    def tell(self, to: str, message: Message) -> None: ...
    def offered(self, url: str, offer: Offered) -> None: ...
    def receipted(self, url: str, receipt: Receipted) -> None: ...
    def replay(self, url: str, coordinator_id: str | None) -> None: ...
    def report(self, key: JobKey) -> bytes | None: ...
    def collect(self, url: str, wanted: Collect) -> None: ...
    def uncollect(self, url: str) -> None:
        """The connection that wanted logs is over."""

    def joined(self, url: str, joined: Joined) -> bool:
        """False when this coordinator is already connected under another URL."""

    def part(self, url: str) -> None:
        """The connection that ``joined`` refused is closed."""

    def has_twin(self, url: str) -> bool:
        """Whether the coordinator that was met at ``url`` is connected under another URL."""


class Ending(msgspec.Struct, frozen=True):
    """How an attempt ended; ``code`` 0 means: no socket was ever open."""

    code: int
    reason: str
    accepted: bool = False
    duplicate: bool = False
