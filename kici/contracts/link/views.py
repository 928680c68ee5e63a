"""State for readers: owners publish with a growing ``rev``, readers keep the highest of the
current boot id. Times are wall-clock seconds."""

from kici.contracts.link import JobKey, Message, Row


class PeerState(Message, tag="peer.state", frozen=True, kw_only=True):
    """Peer -> web, one per coordinator, on change."""

    rev: int
    url: str
    index: int
    state: str
    since: float
    reason: str
    attempt: int
    next_attempt_at: float | None
    coordinator_id: str | None
    coordinator_version: str | None
    credential_issued_at: str | None
    last_connected_at: float | None
    counters: dict[str, int]


class AgentSlot(Row, frozen=True, kw_only=True):
    """One connected agent, enough for a heartbeat's agent summary (peer spec 4.4)."""

    agent_id: str
    labels: tuple[str, ...]
    active_jobs: int
    max_concurrency: int
    platform: str
    arch: str
    mandatory_labels: tuple[str, ...]
    scaler_name: str | None


class WarmSlots(Row, frozen=True, kw_only=True):
    """One warm pool: how many unused agents it shall have, has, and has on their way."""

    label_set: str
    target: int
    ready: int
    in_flight: int


class ScalerSlots(Row, frozen=True, kw_only=True):
    """One backend: labels are enriched; ``gates[i]`` belongs to ``label_sets[i]``."""

    name: str
    kind: str
    label_sets: tuple[tuple[str, ...], ...]
    gates: tuple[tuple[str, ...], ...]
    max_agents: int
    active_count: int
    spawns_on_local_host: bool
    healthy: bool
    reason: str
    cpus_used: float = 0.0
    memory_used_bytes: int = 0
    warm: tuple[WarmSlots, ...] = ()


class PoolCounts(Message, tag="pool.counts", frozen=True, kw_only=True):
    """Pool -> web, every few seconds when something grew: counts since the pool's start.

    ``spawn_failures`` rows are (backend, whether a job waited for the agent, count);
    ``warm_spawns`` and ``warm_reaped`` rows are (scaler, count).
    """

    rev: int
    n_log_chunks: int
    n_log_bytes: int
    n_spawn_refusals: int
    spawn_failures: tuple[tuple[str, bool, int], ...] = ()
    warm_spawns: tuple[tuple[str, int], ...] = ()
    warm_reaped: tuple[tuple[str, int], ...] = ()


class PoolCapacity(Message, tag="pool.capacity", frozen=True, kw_only=True):
    """Pool -> peer (for heartbeats) and web, on change, at most every 100 ms."""

    rev: int
    agents: tuple[AgentSlot, ...]
    scalers: tuple[ScalerSlots, ...]
    n_active_jobs: int
    n_queued_jobs: int
    n_starting_jobs: int
    refusing: str  # why no job would be taken now; empty when one would
    guards: tuple[str, ...] = ()  # guards that are up: no capacity is advertised


class AgentView(Message, tag="agent.state", frozen=True, kw_only=True):
    """Pool -> web, on change; state ``gone`` removes it."""

    rev: int
    agent_id: str
    state: str
    since: float
    scaler_name: str | None
    labels: tuple[str, ...]
    active_jobs: int
    max_concurrency: int
    version: str | None
    hostname: str | None
    reason: str


class StepView(Row, frozen=True, kw_only=True):
    index: int
    name: str
    state: str
    started_at: float | None
    ended_at: float | None


class JobView(Message, tag="job.state", frozen=True, kw_only=True):
    """Pool -> web, on change. Holds no secret and no payload."""

    rev: int
    key: JobKey
    job_name: str
    workflow_name: str
    repo_url: str
    ref: str
    sha: str
    request_id: str | None
    state: str  # a JobState; once finished the wire's terminal state is in ``outcome``
    outcome: str | None
    error: str | None
    agent_id: str | None
    scaler_name: str | None
    attempt: int
    accepted_at: float
    queue_deadline_at: float | None
    started_at: float | None
    completed_at: float | None
    steps: tuple[StepView, ...]
    n_log_lines: int
    labels: tuple[str, ...]


class JobLogTail(Message, tag="job.log-tail", frozen=True, kw_only=True):
    """Pool -> web, only for jobs somebody watches (``log.watch``). Lines are already masked
    by the agent."""

    key: JobKey
    step_index: int
    stream: str
    timestamp: float
    lines: tuple[str, ...]


class LogWatch(Message, tag="log.watch", frozen=True, kw_only=True):
    """Web -> pool: send ``job.log-tail`` for these job ids (all owners), no others."""

    job_ids: tuple[str, ...]


class DeclineView(Message, tag="job.refused", frozen=True, kw_only=True):
    """Pool -> web, for the why-not panel and ``explain``."""

    rev: int
    at: float
    job_name: str
    labels: tuple[str, ...]
    reason: str


class SpoolState(Message, tag="spool.state", frozen=True, kw_only=True):
    """Peer -> web: the log spool while coordinators are away."""

    rev: int
    n_bytes: int
    limit_bytes: int
    n_lost_lines: int


class SocketPassed(Message, tag="socket.passed", frozen=True, kw_only=True):
    """Web -> pool with one descriptor: a WebSocket upgrade on ``/ws`` (docs/architecture.md).

    ``early`` are bytes already read after the request's blank line.
    """

    path: str
    headers: tuple[tuple[str, str], ...]
    remote: str
    early: bytes
