"""A job on the peer link, from ``job.reroute`` to its committed end (peer spec 4.5-4.13).

Each docstring says sender -> receiver and the answer. W is the worker, C the coordinator.
"""

from typing import Any

import msgspec

from kici.contracts.wire import Number, Part, Wire


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
