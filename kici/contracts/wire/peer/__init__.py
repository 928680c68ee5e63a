"""Messages of an authenticated peer link (peer spec section 4).

Each docstring says sender -> receiver and the answer. W is the worker, C the coordinator.
"""

from kici.contracts.wire.peer.fleet import (
    PeerAgentTokenRevoke,
    PeerCacheUploadRequest,
    PeerClusterSettingsRequest,
    PeerClusterSettingsResponse,
    PeerConfigReload,
    PeerConfigReloadResponse,
    PeerLeaving,
    PeerLogsCollectChunk,
    PeerLogsCollectError,
    PeerLogsCollectRequest,
)
from kici.contracts.wire.peer.heartbeat import HeartbeatReceived
from kici.contracts.wire.peer.jobs import (
    JobProgress,
    JobProgressAck,
    JobReroute,
    JobRerouteAck,
    PeerJobCancel,
    PeerLogChunk,
    ScalerEvent,
)

#: Largest frame either side accepts, in bytes (peer spec 1.3).
MAX_FRAME_BYTES = 25 * 2**20
#: Largest JSON plaintext that fits into such a frame once sealed and base64-encoded.
MAX_PLAINTEXT_BYTES = MAX_FRAME_BYTES * 3 // 4 - 28

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
