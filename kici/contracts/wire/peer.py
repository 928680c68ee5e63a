"""Messages of an authenticated peer link (peer spec section 4).

Each docstring says sender -> receiver and the answer. W is the worker, C the coordinator.
"""

from typing import Any

import msgspec

from kici.contracts.wire import Number, Part, Wire

#: Largest frame either side accepts, in bytes (peer spec 1.3).
MAX_FRAME_BYTES = 25 * 2**20
#: Largest JSON plaintext that fits into such a frame once sealed and base64-encoded.
MAX_PLAINTEXT_BYTES = MAX_FRAME_BYTES * 3 // 4 - 28


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


class PeerHeartbeat(Wire, tag="peer.heartbeat", frozen=True, kw_only=True):
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


class Matcher(Part, frozen=True, kw_only=True):
    """A label pattern: ``exact`` has ``value``; ``regex`` has JavaScript ``source``, ``flags``."""

    kind: str
    value: str | None = None
    source: str | None = None
    flags: str | None = None


class JobReroute(Wire, tag="job.reroute", frozen=True, kw_only=True):
    """C -> W; answered by ``job.reroute.ack`` within 15 s (4.5). Holds SECRETS.

    ``payload`` and ``job_config`` stay undecoded here: the peer process only routes them.
    An empty ``Raw`` means absent.
    """

    message_id: str
    job_id: str
    run_id: str
    delivery_id: str
    routing_key: str
    event: str
    action: str | None
    payload: msgspec.Raw
    job_name: str
    workflow_name: str
    runs_on_labels: tuple[tuple[str, ...], ...]
    exclude_labels: tuple[str, ...] | None = None
    runs_on_patterns: tuple[Matcher, ...] | None = None
    exclude_patterns: tuple[Matcher, ...] | None = None
    tried_connections: tuple[str, ...]
    max_hops: Number
    coordinator_id: str
    request_id: str | None = None
    trace_id: str | None = None
    job_config: msgspec.Raw = msgspec.Raw()
    repo_url: str | None = None
    ref: str | None = None
    sha: str | None = None
    provider: str | None = None
    provider_context: msgspec.Raw = msgspec.Raw()
    source_tar_url: str | None = None
    source_tar_hash: str | None = None
    source_tar_digest: str | None = None
    deps_url: str | None = None
    deps_hash: str | None = None
    clone_token: str | None = None


class JobRerouteAck(Wire, tag="job.reroute.ack", frozen=True, kw_only=True):
    """W -> C, exactly one for each ``job.reroute`` (4.7)."""

    message_id: str
    accepted: bool
    reason: str | None = None


class JobProgress(Wire, tag="job.progress", frozen=True, kw_only=True):
    """W -> C (4.8). A terminal ``kind="job"`` one is answered by ``job.progress.ack``."""

    kind: str
    run_id: str
    job_id: str
    job_name: str
    step_index: Number
    step_name: str
    state: str
    timestamp: Number
    data: dict[str, Any] | None = None


class JobProgressAck(Wire, tag="job.progress.ack", frozen=True, kw_only=True):
    """C -> W: the terminal update is committed; the outbox record may go (4.10)."""

    run_id: str
    job_id: str
    state: str


class LogLine(Part, frozen=True, kw_only=True):
    text: str
    timestamp: Number
    stream: str | None = None


class PeerLogChunk(Wire, tag="peer.log.chunk", frozen=True, kw_only=True):
    """W -> C, no answer (4.11). Reception also allows plain strings (C53).

    ``first_line`` and ``n_covered`` are ours, as in the agent's ``log.chunk``: a receiver that
    knows them drops what it has and says what is missing.
    """

    run_id: str
    job_id: str
    step_index: Number
    lines: tuple[LogLine | str, ...]
    timestamp: Number | None = None
    first_line: int | None = None
    n_covered: int | None = None


class ScalerEvent(Wire, tag="scaler.event", frozen=True, kw_only=True):
    """W -> C, no answer (4.12)."""

    run_id: str
    job_id: str
    agent_id: str
    event_type: str
    detail: str
    timestamp_ms: int


class PeerJobCancel(Wire, tag="peer.job.cancel", frozen=True, kw_only=True):
    """C -> W, no answer (4.13). Without ``job_id`` every job of the run is meant."""

    run_id: str
    job_id: str | None = None
    reason: str
    force: bool | None = None


class PeerLeaving(Wire, tag="peer.leaving", frozen=True, kw_only=True):
    """Both ways, the last message before the close (4.14)."""

    instance_id: str
    term: Number


class PeerAgentTokenRevoke(Wire, tag="peer.agent-token.revoke", frozen=True, kw_only=True):
    """C -> W, no answer (4.15)."""

    token_id: str
    sender_instance_id: str


class PeerCacheUploadRequest(Wire, tag="peer.cache.upload.request", frozen=True, kw_only=True):
    """W -> C; answered by the response within 10 s (4.16). We never send it."""

    message_id: str
    run_id: str
    job_id: str
    cache_type: str
    hash: str
    size_bytes: Number


class PeerCacheUploadResponse(Wire, tag="peer.cache.upload.response", frozen=True, kw_only=True):
    message_id: str
    run_id: str
    job_id: str
    upload_url: str


class PeerConfigReload(Wire, tag="peer.config.reload", frozen=True, kw_only=True):
    """C -> W; answered within 15 s (4.17)."""

    message_id: str
    drain: bool | None = None


class PeerConfigReloadResponse(Wire, tag="peer.config.reload.response", frozen=True, kw_only=True):
    message_id: str
    success: bool
    version: Number | None = None
    errors: tuple[str, ...] | None = None
    restart_required: tuple[str, ...] | None = None
    fields_changed: tuple[str, ...] | None = None


class PeerLogsCollectRequest(Wire, tag="peer.logs.collect.request", frozen=True, kw_only=True):
    """C -> W; answered by chunks or an error within 45 s (4.18)."""

    message_id: str
    log_window_hours: Number
    include_coordinator_mesh: bool
    selection: msgspec.Raw


class PeerLogsCollectChunk(Wire, tag="peer.logs.collect.chunk", frozen=True, kw_only=True):
    message_id: str
    seq: int
    is_last: bool
    data_b64: str = msgspec.field(name="dataB64")


class PeerLogsCollectError(Wire, tag="peer.logs.collect.error", frozen=True, kw_only=True):
    message_id: str
    message: str


class PeerClusterSettingsRequest(
    Wire, tag="peer.clusterSettings.request", frozen=True, kw_only=True
):
    """W -> C from 0.9 on; answered within 10 s (4.21)."""

    message_id: str


class ClusterSettings(Part, frozen=True, kw_only=True):
    agent_token_ttl_ms: Number | None = None


class PeerClusterSettingsResponse(
    Wire, tag="peer.clusterSettings.response", frozen=True, kw_only=True
):
    message_id: str
    version: Number
    settings: ClusterSettings


#: What a worker acts on; every other type is dropped and counted (4.22).
ToWorker = (
    HeartbeatReceived
    | JobReroute
    | JobProgressAck
    | PeerJobCancel
    | PeerLeaving
    | PeerAgentTokenRevoke
    | PeerConfigReload
    | PeerLogsCollectRequest
    | PeerClusterSettingsResponse
)

#: What a coordinator acts on from a peer whose stored role is worker (C30).
ToCoordinator = (
    HeartbeatReceived
    | JobRerouteAck
    | JobProgress
    | PeerLogChunk
    | ScalerEvent
    | PeerLeaving
    | PeerCacheUploadRequest
    | PeerConfigReloadResponse
    | PeerLogsCollectChunk
    | PeerLogsCollectError
    | PeerClusterSettingsRequest
)
