"""The worker's ``peer.heartbeat`` made from what the pool and the host say (peer spec 4.4)."""

import re
from collections.abc import Iterator

import msgspec
from msgspec.structs import asdict, replace

from kici.contracts.link.views import AgentSlot, PoolCapacity, ScalerSlots
from kici.contracts.wire.peer.heartbeat import (
    AgentSummary,
    Capabilities,
    HostFacts,
    PeerHeartbeat,
    ScalerCapacity,
)

#: From this coordinator version on a gate belongs to a label set, not to a backend (P33).
GATES_PER_SET = (0, 9, 0)
_VERSION = re.compile(r"v?(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?")


class Advert(msgspec.Struct, frozen=True, kw_only=True):
    """What this worker offers, as last told by the pool and the supervisor."""

    agents: tuple[AgentSlot, ...] = ()
    scalers: tuple[ScalerSlots, ...] = ()
    draining: bool = False


def advert(capacity: PoolCapacity | None, *, draining: bool) -> Advert:
    """The advertised part of ``capacity``: equal adverts need no new heartbeat."""
    if capacity is None:
        return Advert(draining=draining)
    agents, scalers = capacity.agents, capacity.scalers
    if capacity.guards:
        # What exists stays visible, or a coordinator would say that nobody has these labels.
        agents = tuple(_full(agent) for agent in agents)
        scalers = tuple(replace(slots, max_agents=slots.active_count) for slots in scalers)
    return Advert(agents=agents, scalers=scalers, draining=draining)


def _full(agent: AgentSlot) -> AgentSlot:
    return replace(agent, active_jobs=max(agent.active_jobs, agent.max_concurrency))


def at_least(version: str | None, wanted: tuple[int, int, int]) -> bool:
    """Whether a coordinator is ``wanted`` or newer; an unreadable version counts as new."""
    found = _VERSION.match(version or "")
    if found is None:
        return True
    return tuple(int(part or 0) for part in found.groups()) >= wanted


def heartbeat(
    *,
    instance_id: str,
    version: str,
    coordinator_version: str | None,
    offered: Advert,
    facts: HostFacts,
    settings_version: int,
    timestamp_ms: int,
) -> PeerHeartbeat:
    """One heartbeat for a coordinator of ``coordinator_version``."""
    per_set = at_least(coordinator_version, GATES_PER_SET)
    entries = tuple(entry for slots in offered.scalers for entry in _entries(slots, per_set))
    return PeerHeartbeat(
        instance_id=instance_id,
        term=0,
        leader_id=None,
        draining=offered.draining,
        agents=tuple(_summary(agent) for agent in offered.agents),
        capabilities=Capabilities(s3_log_access=False),
        scaler_capacity=entries or None,
        config_version=0,
        registry_version=0,
        cluster_settings_version=settings_version,
        timestamp=timestamp_ms,
        version=version,
        **asdict(facts),
    )


def _summary(agent: AgentSlot) -> AgentSummary:
    return AgentSummary(
        agent_id=agent.agent_id,
        labels=agent.labels,
        active_jobs=agent.active_jobs,
        max_concurrency=agent.max_concurrency,
        platform=agent.platform,
        arch=agent.arch,
        mandatory_labels=agent.mandatory_labels,
        scaler_name=agent.scaler_name,
    )


def _entries(slots: ScalerSlots, per_set: bool) -> Iterator[ScalerCapacity]:
    """The entries of one backend: one, or before 0.9 one for each distinct gate."""
    if per_set:
        yield _entry(slots, slots.label_sets, None, slots.gates)
        return
    by_gate: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for labels, gate in zip(slots.label_sets, slots.gates, strict=True):
        by_gate.setdefault(gate, []).append(labels)
    for gate, label_sets in by_gate.items():
        yield _entry(slots, tuple(label_sets), gate, None)


def _entry(
    slots: ScalerSlots,
    label_sets: tuple[tuple[str, ...], ...],
    gate: tuple[str, ...] | None,
    gates: tuple[tuple[str, ...], ...] | None,
) -> ScalerCapacity:
    # A backend that cannot launch keeps its labels (the coordinator then says "at capacity",
    # not "nobody has these labels") and offers no free place.
    return ScalerCapacity(
        name=slots.name,
        type=slots.kind,
        label_sets=label_sets,
        max_agents=slots.max_agents if slots.healthy else slots.active_count,
        active_count=slots.active_count,
        spawns_on_local_host=slots.spawns_on_local_host,
        mandatory_labels=gate,
        label_set_mandatory_labels=gates,
    )
