"""What the web process knows of the others: copies of their published state.

The publishing rule (docs/architecture.md): an owner sends an event on change with a growing
``rev``; a reader keeps the highest ``rev`` of the owner's current ``boot_id`` and shows its
age. After an owner's restart its old facts are shown as stale until its snapshot replaces
them, at most for ``STALE_KEEP_S``.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from kici.contracts.link import Message, lifecycle, views
from kici.contracts.link.jobs import OutboxState

#: How long rows of a restarted owner stay visible when no snapshot speaks of them.
STALE_KEEP_S = 15.0
#: Rows of one kind; a worker has tens. Beyond this the oldest are forgotten.
MAX_ROWS = 2000
#: Refusals kept for the why-not panel and ``explain``.
MAX_REFUSALS = 50

M = TypeVar("M", bound=Message)

#: message type -> what names one row of it.
KEYS: dict[type[Message], Callable[[Any], Any]] = {
    views.PeerState: lambda body: body.url,
    views.PoolCapacity: lambda body: None,
    views.PoolCounts: lambda body: None,
    views.AgentView: lambda body: body.agent_id,
    views.JobView: lambda body: body.key,
    views.SpoolState: lambda body: None,
    OutboxState: lambda body: None,
    lifecycle.ChildState: lambda body: body.name,
    lifecycle.DrainState: lambda body: None,
    lifecycle.ReloadResult: lambda body: None,
    lifecycle.ConfigChanged: lambda body: None,
}


def ends_row(body: Message) -> bool:
    """True when ``body`` is the last that is said about its row."""
    if isinstance(body, views.AgentView):
        return body.state == "gone"
    return isinstance(body, views.JobView) and body.state == "finished"


class Fact(msgspec.Struct, frozen=True):
    """One message of one owner and when it came (wall-clock seconds)."""

    sender: str
    boot_id: str
    body: Any
    at: float


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One owner: the start of its current process, when it last spoke (wall-clock seconds),
    and whether something shown is still what its predecessor said."""

    name: str
    booted_at: float
    heard_at: float
    is_stale: bool


class Projection:
    """Owns: copies only. Told by: every neighbour, through ``apply``."""

    def __init__(self) -> None:
        #: Grows with every change; streams compare it.
        self.version = 0
        self.refusals: deque[views.DeclineView] = deque(maxlen=MAX_REFUSALS)
        self._boots: dict[str, tuple[str, float]] = {}
        self._heard_at: dict[str, float] = {}
        self._rows: dict[type[Message], dict[Any, Fact]] = {kind: {} for kind in KEYS}

    def apply(self, sender: str, boot_id: str, body: Message, now: float) -> bool:
        """Take one message in; False when it is old news (superseded or of a dead owner)."""
        if isinstance(body, lifecycle.Hello):
            self._boots[sender] = (boot_id, now)
            self._heard_at[sender] = now
            self.version += 1
            return True
        if self._boots.setdefault(sender, (boot_id, now))[0] != boot_id:
            return False  # it was queued before the owner's restart
        self._heard_at[sender] = now
        if isinstance(body, views.DeclineView):
            self.refusals.append(body)
            self.version += 1
            return True
        key = KEYS.get(type(body))
        return key is not None and self._keep(Fact(sender, boot_id, body, now), key(body))

    def one(self, kind: type[M]) -> M | None:
        """The only row of ``kind``, stale or not; None before it was first told."""
        fact = self._rows[kind].get(None)
        return fact.body if fact else None

    def all(self, kind: type[M], now: float) -> list[M]:
        """The rows of ``kind`` that are current or not yet given up."""
        return [fact.body for fact in self.facts(kind, now)]

    def facts(self, kind: type[Message], now: float) -> list[Fact]:
        return [fact for fact in self._rows[kind].values() if not self._given_up(fact, now)]

    def is_stale(self, fact: Fact) -> bool:
        """True for what an owner said before its last restart."""
        return self._boots[fact.sender][0] != fact.boot_id

    def sources(self, now: float) -> list["Source"]:
        """How old what each owner said is; an owner never heard of is missing."""
        return [
            Source(
                name=name,
                booted_at=since,
                heard_at=self._heard_at.get(name, since),
                is_stale=any(
                    fact.sender == name and fact.boot_id != boot_id
                    for rows in self._rows.values()
                    for fact in rows.values()
                    if not self._given_up(fact, now)
                ),
            )
            for name, (boot_id, since) in self._boots.items()
        ]

    def _keep(self, fact: Fact, key: Any) -> bool:
        rows = self._rows[type(fact.body)]
        known = rows.get(key)
        if known and known.boot_id == fact.boot_id and known.body.rev > fact.body.rev:
            return False
        rows.pop(key, None)  # re-inserted last, so that the oldest row is the first
        if not ends_row(fact.body):
            rows[key] = fact
            _forget_oldest(rows)
        self.version += 1
        return True

    def _given_up(self, fact: Fact, now: float) -> bool:
        boot_id, since = self._boots[fact.sender]
        return boot_id != fact.boot_id and now - since > STALE_KEEP_S


def _forget_oldest(rows: dict[Any, Fact]) -> None:
    while len(rows) > MAX_ROWS:
        del rows[next(iter(rows))]


def newest_first(rows: Iterable[views.JobView]) -> list[views.JobView]:
    """Jobs by acceptance, the latest first."""
    return sorted(rows, key=lambda row: row.accepted_at, reverse=True)
