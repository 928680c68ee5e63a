"""What an agent asks for beside its job: caches, artifacts, approvals, events, log bundles
(agent spec 2.0). A worker answers nearly all of it with a no; see protocol/agent_answers.py."""

import msgspec

from kici.contracts.wire import Number, Wire

# --- worker -> agent ---


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


# --- agent -> worker ---


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
