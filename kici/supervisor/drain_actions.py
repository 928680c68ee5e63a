"""What the drain machine wants done by its shell."""

from typing import Literal

import msgspec

from kici.contracts.link.lifecycle import DrainState
from kici.contracts.states import ChildName


class Publish(msgspec.Struct, frozen=True):
    """Send the drain state to every child."""

    state: DrainState


class Cut(msgspec.Struct, frozen=True):
    """Send ``drain.cut`` to the pool."""

    reason: str


class AskLeave(msgspec.Struct, frozen=True):
    """Ask one child to leave; kill it when it has not after ``within_s``."""

    name: ChildName
    within_s: float
    handover: bool = False


class KillAll(msgspec.Struct, frozen=True):
    """SIGKILL every child now."""


class Exit(msgspec.Struct, frozen=True):
    code: int


class Say(msgspec.Struct, frozen=True):
    """One log line with its fields."""

    level: Literal["info", "warning", "error"]
    message: str
    fields: dict[str, str | int] = {}


Action = Publish | Cut | AskLeave | KillAll | Exit | Say
