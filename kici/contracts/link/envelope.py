"""The envelope around every link message, and its codec."""

import msgspec

from kici.contracts.link import Message, jobs, lifecycle, logs, views

LinkMessage = (
    lifecycle.Hello
    | lifecycle.ChildReady
    | lifecycle.ChildFailed
    | lifecycle.ChildState
    | lifecycle.SnapshotRequest
    | lifecycle.DrainRequest
    | lifecycle.UndrainRequest
    | lifecycle.ReloadRequest
    | lifecycle.DrainState
    | lifecycle.DrainCut
    | lifecycle.DrainDone
    | lifecycle.HandoverReady
    | lifecycle.Leave
    | lifecycle.Ping
    | lifecycle.Pong
    | lifecycle.ConfigChanged
    | lifecycle.ReloadResult
    | jobs.JobOffered
    | jobs.JobCancel
    | jobs.JobStored
    | jobs.OutboxState
    | jobs.LogCredit
    | jobs.TokenRevoked
    | jobs.SettingsChanged
    | jobs.JobAccepted
    | jobs.JobDeclined
    | jobs.JobDispatched
    | jobs.JobProgressed
    | jobs.JobLogged
    | jobs.JobFinished
    | jobs.ScalerReported
    | logs.LogsRequest
    | logs.LogsCancel
    | logs.AgentLogs
    | logs.LogsGathered
    | views.PeerState
    | views.PoolCapacity
    | views.PoolCounts
    | views.AgentView
    | views.JobView
    | views.JobLogTail
    | views.LogWatch
    | views.DeclineView
    | views.SpoolState
    | views.SocketPassed
)


class Envelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``sender`` is a process name; ``boot_id`` changes with each start of it, so that what
    was queued before a restart can be told from what came after."""

    sender: str
    boot_id: str
    body: LinkMessage


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)


def pack(sender: str, boot_id: str, body: Message) -> bytes:
    """The bytes of one link message."""
    return _encoder.encode(Envelope(sender=sender, boot_id=boot_id, body=body))  # type: ignore[arg-type]


def unpack(data: bytes | memoryview) -> Envelope:
    """The envelope in ``data``; an error is our own bug and may crash the process."""
    return _decoder.decode(data)
