"""Which worker gets a job (peer spec 5.6, C31-C41). Pure: a registry entry, a selector, a time.

A coordinator of our kind runs nothing itself, so rule C31 (local agents first) has nothing to
prefer; a local executor would be asked before ``candidates``.
"""

from collections.abc import Iterable, Iterator
from heapq import heapify, heappop
from typing import Any

import msgspec

from kici.protocol.inventory import EMPTY, Inventory
from kici.protocol.labels import Requirements, serves

#: min(1000 * 2^n, 60000) ms after the n-th refusal in a row (C37).
NAK_BASE_S = 1.0
NAK_CAP_S = 60.0
#: A heartbeat this much younger than the acknowledgement shows the job in its numbers (C41):
#: workers send one within 250 ms of a change.
SETTLED_AFTER_S = 1.0

NOBODY = "No orchestrator in cluster handles labels: "
ALL_BUSY = "Peers with matching labels exist but are at capacity"
ALL_REFUSED = "All peers with capacity rejected or timed out"


class Reservation(msgspec.Struct):
    """A slot promised to a job: ``resource`` is an agent or a backend of the peer."""

    resource: tuple[str, str]
    acked_at: float | None = None


class PeerEntry(msgspec.Struct):
    """One peer as the coordinator knows it. Owned by ``Registry``."""

    instance_id: str
    link: Any = None  # None while it is not connected
    version: str | None = None
    hostname: str | None = None
    inventory: Inventory = EMPTY
    draining: bool = False
    joined_at: float = 0.0
    gone_at: float | None = None
    heard_at: float = 0.0
    n_naks: int = 0
    nak_until: float = 0.0
    reserved: dict[str, Reservation] = {}

    @property
    def usable(self) -> bool:
        return self.link is not None and not self.draining


class Fit(msgspec.Struct, frozen=True):
    """How well a peer fits: free matching slots of each kind, and the one to reserve."""

    agent_slots: int
    backend_slots: int
    resource: tuple[str, str]


def could_serve(peer: PeerEntry, need: Requirements) -> bool:
    """Whether ``peer`` has the right labels, busy or not."""
    return peer.usable and _offers_any(peer, Matching(need))


class Matching:
    """Whether labels and gate serve ``need``, found out once for each that differ: thousands
    of peers have the same few. For one look at them, not to be kept."""

    def __init__(self, need: Requirements) -> None:
        self._need = need
        self._known: dict[tuple[frozenset[str], frozenset[str]], bool] = {}

    def __call__(self, labels: frozenset[str], gate: frozenset[str]) -> bool:
        offered = (labels, gate)
        known = self._known.get(offered)
        if known is None:
            known = self._known[offered] = serves(self._need, labels, gate)
        return known


def fit(peer: PeerEntry, need: Requirements) -> Fit | None:
    """The free slots of ``peer`` for ``need``, less what is reserved; None without any."""
    return _fit(peer, Matching(need))


def _fit(peer: PeerEntry, serving: Matching) -> Fit | None:
    taken: dict[tuple[str, str], int] = {}
    for reservation in peer.reserved.values():
        taken[reservation.resource] = taken.get(reservation.resource, 0) + 1
    n_agents = n_backends = 0
    best_agent = best_backend = None
    for agent in peer.inventory.agents:
        if agent.free and serving(agent.labels, agent.gate):
            free = agent.free - (taken.get(("agent", agent.agent_id), 0) if taken else 0)
            if free > 0:
                n_agents += free
                best_agent = best_agent or ("agent", agent.agent_id)
    for backend in peer.inventory.backends:
        if backend.free and any(serving(one.labels, one.gate) for one in backend.sets):
            free = backend.free - (taken.get(("backend", backend.name), 0) if taken else 0)
            if free > 0:
                n_backends += free
                best_backend = best_backend or ("backend", backend.name)
    best = best_agent or best_backend
    return None if best is None else Fit(n_agents, n_backends, best)


def candidates(
    peers: Iterable[PeerEntry], need: Requirements, skip: Iterable[str], now: float
) -> Iterator[tuple[PeerEntry, Fit]]:
    """Peers that may be offered the job, best first: by free matching agent slots, then by
    what their backends may still start (C34); equal ones keep the registry's order."""
    barred, serving = set(skip), Matching(need)
    found = [
        (-fitting.agent_slots, -fitting.backend_slots, place, peer, fitting)
        for place, peer in enumerate(peers)
        if peer.usable
        and peer.nak_until <= now
        and peer.instance_id not in barred
        and (fitting := _fit(peer, serving)) is not None
    ]
    # The first one mostly takes it: no need to sort thousands.
    heapify(found)
    while found:
        *_rank, peer, fitting = heappop(found)
        yield peer, fitting


def why_waiting(peers: Iterable[PeerEntry], need: Requirements, labels: Iterable[str]) -> str:
    """The reason to show for a job that nobody can be offered now."""
    serving = Matching(need)
    able = [peer for peer in peers if peer.usable and _offers_any(peer, serving)]
    if not able:
        return NOBODY + (",".join(labels) or "(none)")
    return ALL_REFUSED if any(_fit(peer, serving) for peer in able) else ALL_BUSY


def nak(peer: PeerEntry, now: float) -> float:
    """Count a refusal or a time-out; the seconds for which the peer is left alone."""
    peer.n_naks += 1
    delay: float = min(NAK_BASE_S * 2 ** min(peer.n_naks, 10), NAK_CAP_S)
    peer.nak_until = now + delay
    return delay


def settle(peer: PeerEntry, now: float) -> None:
    """A heartbeat came: reservations that its numbers include are over."""
    over = [
        job_id
        for job_id, held in peer.reserved.items()
        if held.acked_at is not None and now - held.acked_at >= SETTLED_AFTER_S
    ]
    for job_id in over:
        del peer.reserved[job_id]


def _offers_any(peer: PeerEntry, serving: Matching) -> bool:
    return any(serving(agent.labels, agent.gate) for agent in peer.inventory.agents) or any(
        serving(one.labels, one.gate) for backend in peer.inventory.backends for one in backend.sets
    )
