"""What a worker offers, said again every 30 s (peer spec 4.4)."""

import msgspec

from kici.contracts.wire import Number, Part, Wire


class AgentSummary(Part, frozen=True, kw_only=True):
    """One connected agent inside a heartbeat (4.4)."""

    agent_id: str
    labels: tuple[str, ...]
    active_jobs: int
    max_concurrency: int
    platform: str
    arch: str
    # Always sent: 0.9.1 requires it (P34); the default serves reception from 0.1.24.
    mandatory_labels: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    scaler_name: str | None = None


class ScalerCapacity(Part, frozen=True, kw_only=True):
    """One on-demand backend inside a heartbeat (4.4).

    Exactly one gate form is sent, chosen by the coordinator's version (P33):
    ``label_set_mandatory_labels`` from 0.9.0 on, ``mandatory_labels`` before.
    """

    name: str | None = None
    type: str | None = None
    label_sets: tuple[tuple[str, ...], ...]
    max_agents: int
    active_count: int
    spawns_on_local_host: bool | None = None
    mandatory_labels: tuple[str, ...] | None = None
    label_set_mandatory_labels: tuple[tuple[str, ...], ...] | None = None


class Capabilities(Part, frozen=True, kw_only=True):
    s3_log_access: bool = msgspec.field(name="s3LogAccess")


class HostFacts(Part, frozen=True, kw_only=True):
    """Diagnostics of the machine, a part of each heartbeat (4.4); None is left out."""

    hostname: str | None = None
    os_release: str | None = None
    total_memory_mb: int | None = None
    memory_used_mb: int | None = None
    memory_available_mb: int | None = None
    cpu_count: int | None = None
    uptime_seconds: int | None = None
    node_version: str | None = None
    running_as_user: str | None = None
    running_as_uid: int | None = None


class PeerHeartbeat(HostFacts, Wire, tag="peer.heartbeat", frozen=True, kw_only=True):
    """Both ways, as sent by us: after authentication, every 30 s, and on change (P30, P35)."""

    instance_id: str
    term: int
    leader_id: str | None
    draining: bool
    agents: tuple[AgentSummary, ...]
    capabilities: Capabilities
    scaler_capacity: tuple[ScalerCapacity, ...] | None = None
    config_version: int
    registry_version: int
    cluster_settings_version: int | None = None
    timestamp: int
    version: str | None = None


class HeartbeatReceived(Wire, tag="peer.heartbeat", frozen=True, kw_only=True):
    """A heartbeat as received: list items are parsed one by one, so that a single bad entry
    does not hide the good ones (C29)."""

    instance_id: str
    draining: bool = False
    agents: tuple[msgspec.Raw, ...] = ()
    scaler_capacity: tuple[msgspec.Raw, ...] | None = None
    cluster_settings_version: Number | None = None
    hostname: str | None = None
    version: str | None = None
