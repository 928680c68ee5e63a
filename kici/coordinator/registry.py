"""The peers that are connected, or were a moment ago (peer spec 5.5, C18, C24-C27)."""

from typing import Any, Protocol

from kici.contracts.wire import Wire
from kici.coordinator.routing import PeerEntry, settle
from kici.protocol.inventory import EMPTY, Inventory

#: How long a peer that is gone still counts as known: a worker that comes with a new random id
#: at each start must not make the cluster look degraded for ever.
FORGET_AFTER_S = 600.0
#: Characters of a host's name or a version.
MAX_WORD = 255


class PeerLink(Protocol):
    """One authenticated connection, as the coordinator uses it."""

    address: str

    @property
    def role(self) -> str: ...

    def say(self, message: Wire) -> bool:
        """Queue a message; False when the connection is over."""

    def end(self, code: int, reason: str) -> None: ...

    def announce(self, *, draining: bool) -> None:
        """Send a heartbeat with this drain flag now."""


class Registry:
    """Owns: what each peer offers, whether it is connected. Told by: the peer server."""

    def __init__(self) -> None:
        self._entries: dict[str, PeerEntry] = {}

    def joined(self, instance_id: str, link: PeerLink, version: str | None, now: float) -> Any:
        """A connection authenticated; the older one of the same instance, or None, is
        returned for closing (C18)."""
        entry = self._entries.setdefault(instance_id, PeerEntry(instance_id, reserved={}))
        superseded, entry.link = entry.link, link
        entry.version = version and version[:MAX_WORD]
        entry.inventory = EMPTY
        entry.draining = False
        entry.joined_at = entry.heard_at = now
        entry.gone_at = None
        # A worker that restarted may have got well: ask it again.
        entry.n_naks, entry.nak_until = 0, 0.0
        return superseded

    def left(self, instance_id: str, link: PeerLink, now: float) -> bool:
        """``link`` is over; False when it was no longer the instance's connection (C18)."""
        entry = self._entries.get(instance_id)
        if entry is None or entry.link is not link:
            return False
        entry.link = None
        entry.inventory = EMPTY
        entry.gone_at = now
        return True

    def heartbeat(
        self,
        instance_id: str,
        inventory: Inventory,
        draining: bool,
        hostname: str | None,
        now: float,
    ) -> None:
        """What the peer says of itself; its clock counts for nothing (C24, C25)."""
        entry = self._entries[instance_id]
        entry.inventory = inventory
        entry.draining = draining
        entry.hostname = hostname and hostname[:MAX_WORD]
        entry.heard_at = now
        settle(entry, now)

    def get(self, instance_id: str | None) -> PeerEntry | None:
        return self._entries.get(instance_id) if instance_id else None

    def connected(self) -> list[PeerEntry]:
        return [entry for entry in self._entries.values() if entry.link is not None]

    def known(self) -> list[PeerEntry]:
        return list(self._entries.values())

    def say(self, instance_id: str | None, message: Wire) -> bool:
        """Send to a connected peer; False when there is none."""
        entry = self.get(instance_id)
        return bool(entry and entry.link is not None and entry.link.say(message))

    def release(self, instance_id: str | None, job_id: str) -> None:
        """The job no longer needs its slot there."""
        entry = self.get(instance_id)
        if entry is not None:
            entry.reserved.pop(job_id, None)

    def sweep(self, now: float) -> None:
        """Forget peers that are gone for good."""
        for entry in self.known():
            if entry.gone_at is not None and now - entry.gone_at >= FORGET_AFTER_S:
                del self._entries[entry.instance_id]
