"""Every state of the house and the moves between them.

A move that is not listed raises ``LocalError`` with subject, from-state and to-state.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from kici.errors import LocalError


class WireJobState(StrEnum):
    """Job states that ``job.status`` and ``job.progress`` may carry (peer spec 4.8, R24 list)."""

    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    RECOVERING = "recovering"
    CANCELLING = "cancelling"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    TIMED_OUT_STALE = "timed_out_stale"
    DRIFT_DROPPED = "drift_dropped"


WIRE_TERMINAL = frozenset(
    {
        WireJobState.SUCCESS,
        WireJobState.FAILED,
        WireJobState.CANCELLED,
        WireJobState.SKIPPED,
        WireJobState.TIMED_OUT_STALE,
        WireJobState.DRIFT_DROPPED,
    }
)


class JobState(StrEnum):
    """A row of the pool's job table (docs/architecture.md)."""

    QUEUED = "queued"  # accepted; no agent has it yet
    STARTING = "starting"  # an agent is being launched for it
    DISPATCHED = "dispatched"  # job.dispatch is on the wire, no acknowledgement yet
    ACKNOWLEDGED = "acknowledged"  # the agent said job.ack
    RUNNING = "running"
    CANCELLING = "cancelling"  # job.cancel was sent, terminal state awaited
    RECOVERING = "recovering"  # its agent is gone and may come back
    FINISHED = "finished"  # terminal report made, peer has not stored it yet


JOB_MOVES: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.STARTING, JobState.DISPATCHED, JobState.FINISHED}),
    JobState.STARTING: frozenset({JobState.QUEUED, JobState.DISPATCHED, JobState.FINISHED}),
    JobState.DISPATCHED: frozenset(
        {
            JobState.ACKNOWLEDGED,
            JobState.RUNNING,
            JobState.QUEUED,
            JobState.CANCELLING,
            JobState.RECOVERING,
            JobState.FINISHED,
        }
    ),
    JobState.ACKNOWLEDGED: frozenset(
        {
            JobState.RUNNING,
            JobState.QUEUED,
            JobState.CANCELLING,
            JobState.RECOVERING,
            JobState.FINISHED,
        }
    ),
    JobState.RUNNING: frozenset({JobState.CANCELLING, JobState.RECOVERING, JobState.FINISHED}),
    JobState.CANCELLING: frozenset({JobState.RECOVERING, JobState.FINISHED}),
    JobState.RECOVERING: frozenset({JobState.RUNNING, JobState.CANCELLING, JobState.FINISHED}),
    JobState.FINISHED: frozenset(),
}

WAITING = frozenset({JobState.QUEUED, JobState.STARTING})
#: Accepted, and no agent has said that it has the job.
UNPLACED = WAITING | {JobState.DISPATCHED}
WITH_AGENT = frozenset(
    {
        JobState.DISPATCHED,
        JobState.ACKNOWLEDGED,
        JobState.RUNNING,
        JobState.CANCELLING,
        JobState.RECOVERING,
    }
)


class HeldState(StrEnum):
    """A job as the embedded coordinator knows it, from its submission to its end."""

    QUEUED = "queued"  # nobody has it; offered as soon as somebody can
    OFFERED = "offered"  # job.reroute is on the wire, its ack is awaited
    ACCEPTED = "accepted"  # a worker has it and has not reported progress
    RUNNING = "running"
    CANCELLING = "cancelling"  # peer.job.cancel was sent, the end is awaited
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    TIMED_OUT_STALE = "timed_out_stale"
    DRIFT_DROPPED = "drift_dropped"


HELD_ENDED = frozenset(HeldState(state) for state in WIRE_TERMINAL)

HELD_MOVES: Mapping[HeldState, frozenset[HeldState]] = {
    HeldState.QUEUED: frozenset({HeldState.OFFERED}) | HELD_ENDED,
    # Progress may overtake the acknowledgement's handling, and may be the end already.
    HeldState.OFFERED: frozenset(
        {HeldState.QUEUED, HeldState.ACCEPTED, HeldState.RUNNING, HeldState.CANCELLING}
    )
    | HELD_ENDED,
    HeldState.ACCEPTED: frozenset({HeldState.QUEUED, HeldState.RUNNING, HeldState.CANCELLING})
    | HELD_ENDED,
    HeldState.RUNNING: frozenset({HeldState.CANCELLING}) | HELD_ENDED,
    HeldState.CANCELLING: HELD_ENDED,
    **{state: frozenset() for state in HELD_ENDED},
}


class AgentState(StrEnum):
    """One agent as the pool knows it, each state with its own deadline (issue "Agents")."""

    REQUESTED = "requested"  # launch asked of a backend
    STARTING = "starting"  # the backend says it runs; it has not registered
    IDLE = "idle"
    BUSY = "busy"
    STOPPING = "stopping"
    GONE = "gone"


AGENT_MOVES: Mapping[AgentState, frozenset[AgentState]] = {
    AgentState.REQUESTED: frozenset(
        {AgentState.STARTING, AgentState.IDLE, AgentState.STOPPING, AgentState.GONE}
    ),
    AgentState.STARTING: frozenset({AgentState.IDLE, AgentState.STOPPING, AgentState.GONE}),
    AgentState.IDLE: frozenset({AgentState.BUSY, AgentState.STOPPING, AgentState.GONE}),
    AgentState.BUSY: frozenset({AgentState.IDLE, AgentState.STOPPING, AgentState.GONE}),
    AgentState.STOPPING: frozenset({AgentState.GONE}),
    AgentState.GONE: frozenset(),
}


class ConnectionState(StrEnum):
    """One coordinator link, the five values of ``/status`` (worker surface 3.5)."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    HANDSHAKING = "handshaking"
    AUTHENTICATING = "authenticating"
    CONNECTED = "connected"


CONNECTION_MOVES: Mapping[ConnectionState, frozenset[ConnectionState]] = {
    ConnectionState.DISCONNECTED: frozenset({ConnectionState.CONNECTING}),
    ConnectionState.CONNECTING: frozenset(
        {ConnectionState.HANDSHAKING, ConnectionState.DISCONNECTED}
    ),
    ConnectionState.HANDSHAKING: frozenset(
        {ConnectionState.AUTHENTICATING, ConnectionState.DISCONNECTED}
    ),
    ConnectionState.AUTHENTICATING: frozenset(
        {ConnectionState.CONNECTED, ConnectionState.DISCONNECTED}
    ),
    ConnectionState.CONNECTED: frozenset({ConnectionState.DISCONNECTED}),
}


class ChildName(StrEnum):
    """The three children of the supervisor, and itself, as they sign their messages."""

    SUPERVISOR = "supervisor"
    PEER = "peer"
    POOL = "pool"
    WEB = "web"


S = TypeVar("S", bound=StrEnum)


def check_move(moves: Mapping[S, frozenset[S]], subject: str, before: S, after: S) -> None:
    """Raise ``LocalError`` unless ``moves`` lists ``before -> after``."""
    if after not in moves[before]:
        raise LocalError(f"{subject}: no move from {before} to {after}")
