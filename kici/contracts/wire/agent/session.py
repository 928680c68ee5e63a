"""Who an agent is and how it fares: its token, its registration, its status (agent spec
2.1.1-2.1.3, 2.2.1-2.2.5). W is the worker, A the agent."""

import msgspec

from kici.contracts.wire import Number, Part, Wire


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


class ErrorMessage(Wire, tag="error", frozen=True, kw_only=True):
    """W -> A before close 4003."""

    code: str
    message: str


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
