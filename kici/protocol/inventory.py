"""What a heartbeat says a peer can run, read one entry at a time (peer spec 4.4, C28, C29).

Labels and gates are canonical (trimmed, lower case) here, so that routing only compares.
"""

from collections.abc import Iterable
from functools import lru_cache

import msgspec

from kici.contracts.wire import Number, Part
from kici.contracts.wire.peer.heartbeat import HeartbeatReceived
from kici.protocol.labels import canonical_set

#: Entries beyond this are not read: a heartbeat of 25 MiB must not fill the registry.
MAX_ENTRIES = 2000
#: The same for their bytes; agents with a hundred labels each fit.
MAX_BYTES = 8 * 2**20
#: More free slots than this are as good as this many; as are more taken ones.
MAX_SLOTS = 1_000_000
#: Sets of labels that peers have in common: thousands say the same few. Kept are those that
#: came last, and none that is large.
_MAX_SHARED = 1024
_MAX_SHARED_CHARACTERS = 2000


class _AgentHeard(Part, frozen=True, kw_only=True):
    agent_id: str
    labels: tuple[str, ...]
    active_jobs: Number
    max_concurrency: Number
    mandatory_labels: tuple[str, ...] | None = None


class _BackendHeard(Part, frozen=True, kw_only=True):
    name: str | None = None
    label_sets: tuple[tuple[str, ...], ...]
    max_agents: Number
    active_count: Number
    mandatory_labels: tuple[str, ...] | None = None
    label_set_mandatory_labels: tuple[tuple[str, ...], ...] | None = None


class Agent(msgspec.Struct, frozen=True):
    """One connected agent; ``free`` slots at the moment of the heartbeat."""

    agent_id: str
    labels: frozenset[str]
    gate: frozenset[str]
    free: int


class LabelSet(msgspec.Struct, frozen=True):
    """What one kind of on-demand agent offers, and the labels a job must ask for."""

    labels: frozenset[str]
    gate: frozenset[str]


class Backend(msgspec.Struct, frozen=True):
    """One on-demand backend; ``free`` agents may still be started."""

    name: str
    sets: tuple[LabelSet, ...]
    free: int


class Inventory(msgspec.Struct, frozen=True):
    """All that a peer offers. ``rejected`` entries were malformed and are left out."""

    agents: tuple[Agent, ...] = ()
    backends: tuple[Backend, ...] = ()
    rejected: int = 0


EMPTY = Inventory()

_agents = msgspec.json.Decoder(_AgentHeard)
_backends = msgspec.json.Decoder(_BackendHeard)


def read_inventory(heartbeat: HeartbeatReceived) -> Inventory:
    """The good entries of ``heartbeat``; bad ones are counted, never fatal."""
    agents, bad_agents = _each(_agents, heartbeat.agents)
    backends, bad_backends = _each(_backends, heartbeat.scaler_capacity or ())
    return Inventory(
        tuple(_agent(heard) for heard in agents),
        tuple(_backend(heard, place) for place, heard in enumerate(backends)),
        bad_agents + bad_backends,
    )


def _each(decoder: msgspec.json.Decoder, entries: Iterable[msgspec.Raw]) -> tuple[list, int]:  # type: ignore[type-arg]
    good, bad, size = [], 0, 0
    for number, raw in enumerate(entries):
        try:
            size += memoryview(raw).nbytes
            if number >= MAX_ENTRIES or size > MAX_BYTES:
                raise msgspec.ValidationError("too many entries")
            good.append(decoder.decode(raw))
        except (msgspec.DecodeError, RecursionError):
            bad += 1
    return good, bad


def _agent(heard: _AgentHeard) -> Agent:
    free = _slots(heard.max_concurrency, heard.active_jobs)
    return Agent(
        heard.agent_id,
        _labels(heard.labels),
        _labels(heard.mandatory_labels or ()),
        free,
    )


def _backend(heard: _BackendHeard, place: int) -> Backend:
    free = _slots(heard.max_agents, heard.active_count)
    return Backend(heard.name or f"#{place}", _label_sets(heard), free)


def _slots(most: Number, taken: Number) -> int:
    """What is free. Cut first: JSON knows numbers whose difference no float holds."""
    most, taken = (max(0, min(number, MAX_SLOTS)) for number in (most, taken))
    return max(0, int(most - taken))


def _label_sets(heard: _BackendHeard) -> tuple[LabelSet, ...]:
    """Either gate form (4.4); gates that do not fit the label sets make it serve nothing."""
    gates = heard.label_set_mandatory_labels
    if gates is None:
        gates = (heard.mandatory_labels or (),) * len(heard.label_sets)
    if len(gates) != len(heard.label_sets):
        return ()
    return tuple(
        LabelSet(_labels(labels), _labels(gate))
        for labels, gate in zip(heard.label_sets, gates, strict=True)
    )


def _labels(labels: tuple[str, ...]) -> frozenset[str]:
    """Canonical; equal ones are mostly one object, which is small to keep and quick to compare."""
    if len(labels) + sum(map(len, labels)) > _MAX_SHARED_CHARACTERS:
        return canonical_set(labels)
    return _shared(labels)


@lru_cache(_MAX_SHARED)
def _shared(labels: tuple[str, ...]) -> frozenset[str]:
    return canonical_set(labels)
