"""Messages of the agent link (agent spec section 2). W is the worker, A the agent."""

from kici.contracts.wire.agent.jobs import (
    JobAck,
    JobCancel,
    JobDispatch,
    JobHeartbeat,
    JobReject,
    JobStatus,
    LogChunk,
    StepStatus,
)
from kici.contracts.wire.agent.services import (
    AgentApiRequest,
    ArtifactsDownloadRequest,
    ArtifactsUploadComplete,
    ArtifactsUploadRequest,
    CacheUploadComplete,
    CacheUploadRequest,
    CacheUserRestoreRequest,
    CacheUserSaveComplete,
    CacheUserSaveRequest,
    EventEmit,
    FleetBundleChunk,
    FleetBundleError,
    FleetLogsRequest,
    JobConcurrencyReport,
    JobContext,
    ProvenanceUploadComplete,
    ProvenanceUploadDefer,
    ProvenanceUploadRequest,
    RunEvent,
    ScalerClaimCredentials,
    StepApprovalRequest,
)
from kici.contracts.wire.agent.session import (
    AgentLog,
    AgentMetrics,
    AgentRegister,
    AgentStatus,
    AuthFailure,
    AuthRequest,
    AuthSuccess,
    ConfigAck,
    Heartbeat,
    RegisterAck,
)

#: Largest frame either side accepts (agent spec 1.2).
MAX_FRAME_BYTES = 25 * 2**20
#: The one agent protocol version there is (1.5).
PROTOCOL_VERSION = 1

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
