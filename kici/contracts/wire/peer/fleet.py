"""The upkeep of a fleet: leaving, tokens, caches, configuration, logs (peer spec 4.14-4.21).

Each docstring says sender -> receiver and the answer. W is the worker, C the coordinator.
"""

import msgspec

from kici.contracts.wire import Number, Part, Wire


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


class LogSelection(Part, frozen=True, kw_only=True):
    """Whose bundles are wanted; ``all`` makes the lists void (4.18)."""

    all: bool
    agent_ids: tuple[str, ...] = ()
    worker_instance_ids: tuple[str, ...] = ()


class PeerLogsCollectRequest(Wire, tag="peer.logs.collect.request", frozen=True, kw_only=True):
    """C -> W; answered by chunks or an error within 45 s (4.18)."""

    message_id: str
    log_window_hours: Number
    include_coordinator_mesh: bool
    #: A ``LogSelection``, not yet looked at: one that is wrong is answered, not dropped.
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
