"""Requests of agents that a worker answers itself, nearly always with a no (agent spec 2.0
index, classes ANS and REF; A64-A70), and what it takes without looking."""

from collections.abc import Callable

from kici.contracts.wire import Wire
from kici.contracts.wire.agent import services as wire

#: Taken and thrown away: nobody here acts on them. ``job.context`` holds secrets.
DROPPED: tuple[type[Wire], ...] = (
    wire.RunEvent,
    wire.JobContext,
    wire.CacheUploadComplete,
    wire.CacheUserSaveComplete,
    wire.ProvenanceUploadComplete,
    wire.ProvenanceUploadDefer,
)
NO_EVENTS = "Event routing not available"
NO_API = "Agent API not available"
NO_APPROVALS = "Approvals not available on this orchestrator"
NO_ARTIFACTS = "artifact uploads are not configured on this orchestrator"
NO_CLAIMS = "Scaler credential claim not available"


def _concurrency(message: wire.JobConcurrencyReport) -> Wire:
    # Never ``wait``: 0.1.24 agents cannot be woken again (2.1.6).
    return wire.JobConcurrencyAck(request_id=message.message_id, action="proceed")


def _cache_upload(message: wire.CacheUploadRequest) -> Wire:
    return wire.CacheUploadResponse(request_id=message.message_id, upload_url="")


def _cache_restore(message: wire.CacheUserRestoreRequest) -> Wire:
    return wire.CacheUserRestoreResponse(request_id=message.message_id, hit=False)


def _cache_save(message: wire.CacheUserSaveRequest) -> Wire:
    return wire.CacheUserSaveResponse(request_id=message.message_id, skip=True)


def _provenance(message: wire.ProvenanceUploadRequest) -> Wire:
    return wire.ProvenanceUploadResponse(request_id=message.message_id, upload_url="")


def _emit(message: wire.EventEmit) -> Wire:
    return wire.EventEmitResponse(request_id=message.request_id, error=NO_EVENTS)


def _api(message: wire.AgentApiRequest) -> Wire:
    return wire.AgentApiResponse(request_id=message.request_id, error=NO_API)


def _approval(message: wire.StepApprovalRequest) -> Wire:
    return wire.StepApprovalResolved(
        request_id=message.message_id,
        run_id=message.run_id,
        job_id=message.job_id,
        step_index=message.step_index,
        outcome="rejected",
        reason=NO_APPROVALS,
    )


def _upload(message: wire.ArtifactsUploadRequest) -> Wire:
    return wire.ArtifactsUploadResponse(
        request_id=message.message_id, outcome="rejected", error=NO_ARTIFACTS
    )


def _uploaded(message: wire.ArtifactsUploadComplete) -> Wire:
    return wire.ArtifactsUploadCompleteAck(
        request_id=message.message_id, outcome="failed", reason=NO_ARTIFACTS
    )


def _download(message: wire.ArtifactsDownloadRequest) -> Wire:
    return wire.ArtifactsDownloadResponse(
        request_id=message.message_id, outcome="not_found", error=NO_ARTIFACTS
    )


def _claim(message: wire.ScalerClaimCredentials) -> Wire:
    return wire.ScalerClaimCredentialsResponse(request_id=message.request_id, error=NO_CLAIMS)


_ANSWERS: dict[type[Wire], Callable[..., Wire]] = {
    wire.JobConcurrencyReport: _concurrency,
    wire.CacheUploadRequest: _cache_upload,
    wire.CacheUserRestoreRequest: _cache_restore,
    wire.CacheUserSaveRequest: _cache_save,
    wire.ProvenanceUploadRequest: _provenance,
    wire.EventEmit: _emit,
    wire.AgentApiRequest: _api,
    wire.StepApprovalRequest: _approval,
    wire.ArtifactsUploadRequest: _upload,
    wire.ArtifactsUploadComplete: _uploaded,
    wire.ArtifactsDownloadRequest: _download,
    wire.ScalerClaimCredentials: _claim,
}


def answer(message: Wire) -> Wire | None:
    """The worker's own answer; None when ``message`` is not such a request."""
    make = _ANSWERS.get(type(message))
    return None if make is None else make(message)
