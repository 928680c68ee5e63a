"""Messages of the agent link (agent spec section 2). W is the worker, A the agent."""

from typing import Any

import msgspec

from kici.contracts.wire import Number, Part, Wire

#: Largest frame either side accepts (agent spec 1.2).
MAX_FRAME_BYTES = 25 * 2**20
#: The one agent protocol version there is (1.5).
PROTOCOL_VERSION = 1


# --- worker -> agent -----------------------------------------------------------------


class AuthSuccess(Wire, tag="auth.success", frozen=True, kw_only=True):
    """W -> A after a valid token; A answers ``agent.register``."""

    connection_id: str


class AuthFailure(Wire, tag="auth.failure", frozen=True, kw_only=True):
    """W -> A, permanent for the agent, followed by close 4010 or 4005."""

    reason: str


class RegisterAck(Wire, tag="register.ack", frozen=True, kw_only=True):
    """W -> A, before any dispatch (A15). ``pending_dispatch`` when a bound job follows."""

    agent_id: str
    labels: tuple[str, ...]
    # Sent even when false: the recordings always carry it.
    scaler_managed: bool | msgspec.UnsetType = msgspec.UNSET
    pending_dispatch: bool | None = None
    warm_pool: bool | None = None


class JobDispatch(Wire, tag="job.dispatch", frozen=True, kw_only=True):
    """W -> A; answered by ``job.ack`` or ``job.reject`` (3.1). Holds SECRETS."""

    message_id: str
    run_id: str
    job_id: str
    repo_url: str
    ref: str
    sha: str
    lock_file_url: str
    job_config: dict[str, Any]
    timestamp: Number
    job_name: str | None = None
    workflow_name: str | None = None
    token: str | None = None
    source_auth: dict[str, Any] | None = None
    workflow_auth: dict[str, Any] | None = None
    secrets: dict[str, str] | None = None
    namespaced_secrets: dict[str, dict[str, str]] | None = None
    run_public_key: str | None = None
    npm_registries: list[dict[str, Any]] | None = None
    install_env_secrets: dict[str, str] | None = None
    container_registry_auth: dict[str, Any] | None = None
    max_log_size_bytes: Number | str | None = None
    source_tar_url: str | None = None
    source_tar_hash: str | None = None
    source_tar_digest: str | None = None
    deps_url: str | None = None
    deps_hash: str | None = None
    request_id: str | None = None
    upstream_job_outputs: dict[str, Any] | None = None
    upstream_job_statuses: dict[str, Any] | None = None
    org_id: str | None = None
    repo_id: str | None = None
    cache_ref_scope: str | None = None


class JobCancel(Wire, tag="job.cancel", frozen=True, kw_only=True):
    """W -> A; answered by a terminal ``job.status``."""

    message_id: str
    run_id: str
    job_id: str
    reason: str
    force: bool | None = None


class JobConcurrencyAck(Wire, tag="job.concurrency.ack", frozen=True, kw_only=True):
    request_id: str
    action: str
    reason: str | None = None


class CacheUploadResponse(Wire, tag="cache.upload.response", frozen=True, kw_only=True):
    request_id: str
    upload_url: str


class CacheUserRestoreResponse(Wire, tag="cache.user.restore.response", frozen=True, kw_only=True):
    request_id: str
    hit: bool


class CacheUserSaveResponse(Wire, tag="cache.user.save.response", frozen=True, kw_only=True):
    request_id: str
    skip: bool


class ProvenanceUploadResponse(Wire, tag="provenance.upload.response", frozen=True, kw_only=True):
    request_id: str
    upload_url: str


class EventEmitResponse(Wire, tag="event.emit.response", frozen=True, kw_only=True):
    request_id: str
    delivery_id: str | None = None
    error: str | None = None


class AgentApiResponse(Wire, tag="agent.api.response", frozen=True, kw_only=True):
    request_id: str
    error: str | None = None


class StepApprovalResolved(Wire, tag="step.approval-resolved", frozen=True, kw_only=True):
    request_id: str
    run_id: str
    job_id: str
    step_index: int
    outcome: str
    reason: str | None = None


class FleetLogsRequest(Wire, tag="fleet.logs.request", frozen=True, kw_only=True):
    request_id: str
    log_window_hours: Number
    max_bytes: int


class ArtifactsUploadResponse(Wire, tag="artifacts.upload.response", frozen=True, kw_only=True):
    request_id: str
    outcome: str
    error: str | None = None


class ArtifactsUploadCompleteAck(
    Wire, tag="artifacts.upload.complete.ack", frozen=True, kw_only=True
):
    request_id: str
    outcome: str
    reason: str | None = None


class ArtifactsDownloadResponse(Wire, tag="artifacts.download.response", frozen=True, kw_only=True):
    request_id: str
    outcome: str
    error: str | None = None


class ScalerClaimCredentialsResponse(
    Wire, tag="scaler.claim-credentials.response", frozen=True, kw_only=True
):
    request_id: str
    error: str | None = None


class ErrorMessage(Wire, tag="error", frozen=True, kw_only=True):
    """W -> A before close 4003."""

    code: str
    message: str


# --- agent -> worker -----------------------------------------------------------------


class AuthRequest(Wire, tag="auth.request", frozen=True, kw_only=True):
    """A -> W, first frame when the agent has a token. ``token`` is SECRET."""

    token: str
    protocol_version: int


class InFlightJob(Part, frozen=True, kw_only=True):
    job_id: str
    run_id: str


class AgentRegister(Wire, tag="agent.register", frozen=True, kw_only=True):
    """A -> W; answered by ``register.ack`` or a close (2.2.2)."""

    message_id: str
    agent_id: str
    labels: tuple[str, ...]
    platform: str | None = None
    arch: str | None = None
    version: str | None = None
    max_concurrency: int | None = None
    in_flight_jobs: tuple[InFlightJob, ...] | None = None
    hostname: str | None = None
    os_release: str | None = None
    os_version: str | None = None
    node_version: str | None = None
    running_as_user: str | None = None
    total_memory_mb: Number | None = None
    cpu_count: Number | None = None
    running_as_uid: Number | None = None
    properties: dict[str, str | int | float | bool] | None = None


class Heartbeat(Wire, tag="heartbeat", frozen=True, kw_only=True):
    timestamp: Number


class ConfigAck(Wire, tag="config.ack", frozen=True, kw_only=True):
    message_id: str
    agent_id: str


class AgentStatus(Wire, tag="agent.status", frozen=True, kw_only=True):
    """A -> W after each reject and each finished job: the slot is free again."""

    message_id: str
    agent_id: str
    active_jobs: Number
    memory_used_mb: Number | None = None
    memory_available_mb: Number | None = None
    uptime_seconds: Number | None = None


class JobAck(Wire, tag="job.ack", frozen=True, kw_only=True):
    message_id: str
    run_id: str
    job_id: str
    timestamp: Number


class JobReject(Wire, tag="job.reject", frozen=True, kw_only=True):
    message_id: str
    run_id: str
    job_id: str
    timestamp: Number
    reason: str


class JobStatus(Wire, tag="job.status", frozen=True, kw_only=True):
    """A -> W, relayed as ``job.progress`` kind job (2.2.8)."""

    message_id: str
    run_id: str
    job_id: str
    state: str
    timestamp: Number
    data: dict[str, Any] | None = None
    dropped_jobs: tuple[str, ...] | None = None
    secret_outputs: dict[str, Any] | None = None


class StepStatus(Wire, tag="step.status", frozen=True, kw_only=True):
    """A -> W, relayed as ``job.progress`` kind step (2.2.9)."""

    message_id: str
    run_id: str
    job_id: str
    step_index: int
    step_name: str
    state: str
    timestamp: Number
    data: dict[str, Any] | None = None
    # snake_case on the wire, unlike everything else.
    step_type: str | None = msgspec.field(default=None, name="step_type")
    secrets_accessed: tuple[str, ...] | None = None
    concurrency_kind: str | None = None
    group_id: str | None = None
    log_bytes_streamed: int | None = None


class LogChunk(Wire, tag="log.chunk", frozen=True, kw_only=True):
    """A -> W, relayed as ``peer.log.chunk``; ``step_index`` -1 is the job itself (2.2.10).

    Ours: ``first_line`` is the number of the first line within its step, from 0; ``n_covered``
    how many numbers the chunk takes when that is not its number of lines: its text then
    stands for lines that are gone. Others ignore both.
    """

    message_id: str
    run_id: str
    job_id: str
    step_index: Number
    lines: tuple[str, ...]
    timestamp: Number
    stream: str | None = None
    first_line: int | None = None
    n_covered: int | None = None


class JobHeartbeat(Wire, tag="job.heartbeat", frozen=True, kw_only=True):
    run_id: str
    job_id: str
    timestamp: Number


class AgentLog(Wire, tag="agent.log", frozen=True, kw_only=True):
    message_id: str
    agent_id: str
    lines: tuple[str, ...]
    timestamp: Number


class AgentMetrics(Wire, tag="agent.metrics", frozen=True, kw_only=True):
    message_id: str
    agent_id: str
    metrics: msgspec.Raw
    timestamp: Number


class RunEvent(Wire, tag="run.event", frozen=True, kw_only=True):
    """Accepted whatever it holds (A21)."""


class JobContext(Wire, tag="job.context", frozen=True, kw_only=True):
    """Accepted whatever it holds (A21); holds SECRETS, never kept."""


class JobConcurrencyReport(Wire, tag="job.concurrency.report", frozen=True, kw_only=True):
    message_id: str
    run_id: str
    job_id: str
    group: str


class CacheUploadRequest(Wire, tag="cache.upload.request", frozen=True, kw_only=True):
    message_id: str
    job_id: str


class CacheUploadComplete(Wire, tag="cache.upload.complete", frozen=True, kw_only=True):
    message_id: str
    job_id: str


class CacheUserRestoreRequest(Wire, tag="cache.user.restore.request", frozen=True, kw_only=True):
    message_id: str
    job_id: str
    key: str


class CacheUserSaveRequest(Wire, tag="cache.user.save.request", frozen=True, kw_only=True):
    message_id: str
    job_id: str
    key: str


class CacheUserSaveComplete(Wire, tag="cache.user.save.complete", frozen=True, kw_only=True):
    message_id: str
    job_id: str
    key: str


class ProvenanceUploadRequest(Wire, tag="provenance.upload.request", frozen=True, kw_only=True):
    message_id: str
    job_id: str


class ProvenanceUploadComplete(Wire, tag="provenance.upload.complete", frozen=True, kw_only=True):
    message_id: str
    job_id: str


class ProvenanceUploadDefer(Wire, tag="provenance.upload.defer", frozen=True, kw_only=True):
    message_id: str
    job_id: str


class EventEmit(Wire, tag="event.emit", frozen=True, kw_only=True):
    job_id: str
    request_id: str
    event_name: str


class AgentApiRequest(Wire, tag="agent.api.request", frozen=True, kw_only=True):
    request_id: str
    method: str


class StepApprovalRequest(Wire, tag="step.approval-request", frozen=True, kw_only=True):
    message_id: str
    run_id: str
    job_id: str
    step_index: int
    step_name: str
    reason: str


class FleetBundleChunk(Wire, tag="fleet.bundle.chunk", frozen=True, kw_only=True):
    request_id: str
    seq: int
    is_last: bool
    data_b64: str = msgspec.field(name="dataB64")


class FleetBundleError(Wire, tag="fleet.bundle.error", frozen=True, kw_only=True):
    request_id: str
    message: str


class ArtifactsUploadRequest(Wire, tag="artifacts.upload.request", frozen=True, kw_only=True):
    message_id: str
    job_id: str


class ArtifactsUploadComplete(Wire, tag="artifacts.upload.complete", frozen=True, kw_only=True):
    message_id: str
    job_id: str


class ArtifactsDownloadRequest(Wire, tag="artifacts.download.request", frozen=True, kw_only=True):
    message_id: str
    job_id: str


class ScalerClaimCredentials(Wire, tag="scaler.claim-credentials", frozen=True, kw_only=True):
    request_id: str


#: Everything a registered agent may say; anything else ends the connection with 4003.
FromAgent = (
    AuthRequest
    | AgentRegister
    | Heartbeat
    | ConfigAck
    | AgentStatus
    | JobAck
    | JobReject
    | JobStatus
    | StepStatus
    | LogChunk
    | JobHeartbeat
    | AgentLog
    | AgentMetrics
    | RunEvent
    | JobContext
    | JobConcurrencyReport
    | CacheUploadRequest
    | CacheUploadComplete
    | CacheUserRestoreRequest
    | CacheUserSaveRequest
    | CacheUserSaveComplete
    | ProvenanceUploadRequest
    | ProvenanceUploadComplete
    | ProvenanceUploadDefer
    | EventEmit
    | AgentApiRequest
    | StepApprovalRequest
    | FleetBundleChunk
    | FleetBundleError
    | ArtifactsUploadRequest
    | ArtifactsUploadComplete
    | ArtifactsDownloadRequest
    | ScalerClaimCredentials
)

#: What our own agent acts on; it ignores the rest (A98).
ToAgent = AuthSuccess | AuthFailure | RegisterAck | JobDispatch | JobCancel | FleetLogsRequest
