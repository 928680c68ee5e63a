"""The configuration as every process sees it: frozen, complete, already checked.

Source of the variables: worker-surface spec section 2; of the scalers: scaler spec 1.3.
Durations are seconds here whatever the variable's unit is; sizes are bytes.
"""

import msgspec


class Secret(msgspec.Struct, frozen=True):
    """A value that must never be shown; ``reveal()`` marks each place that needs it."""

    value: str

    def reveal(self) -> str:
        return self.value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What ``KICI_*`` variables say. One row a variable in ``config/settings.py``."""

    role: str
    # As configured, unmodified: the key of ownership and of the outbox (peer spec 1.1).
    coordinator_urls: tuple[str, ...]
    join_token: Secret | None = None
    # Where ``join_token`` was read from, to be wiped after use; None when from the environment.
    join_token_file: str | None = None
    credential_file: str
    instance_id: str
    data_dir: str
    runtime_dir: str
    port: int = 4000
    host: str = "0.0.0.0"
    base_path: str = "/"
    log_level: str = "info"
    log_format: str = "auto"
    log_dir: str | None = None
    log_max_size_bytes: int = 500 * 2**20
    log_retention_days: float = 7
    # Of all log files together; 0 is any amount.
    log_total_max_bytes: int = 0
    scaler_config_path: str | None = None
    scaler_config_dir: str | None = None
    orchestrator_url: str | None = None
    machine_ledger_dir: str | None = None
    spawn_timeout_s: float = 300.0
    spill_over: bool = False
    agent_auth: str = "token"
    agent_token_ttl_s: float = 3600.0
    # SHA-256 hex of static agent tokens, made by ``kici-worker token create``.
    agent_tokens_file: str | None = None
    dispatch_ack_timeout_s: float = 10.0
    heartbeat_interval_s: float = 30.0
    max_reconnect_delay_s: float = 60.0
    # Names without the KICI_AGENT_ENV_ prefix.
    agent_env: dict[str, str] = {}
    drain_timeout_s: float = 300.0
    # Jobs that wait for a slot: how many, and how long before they are reported failed.
    queue_limit: int = 64
    queue_timeout_s: float = 3600.0
    # How long an open outbox record waits for its agent after a restart.
    adopt_grace_s: float = 120.0
    log_spool_max_bytes: int = 64 * 2**20
    log_spool_dir: str | None = None
    outbox_max_age_s: float = 86400.0
    admin_token: Secret | None = None
    allowed_hosts: tuple[str, ...] = ()
    insecure_agent_auth: bool = False
    loki_url: str | None = None
    loki_tenant: str | None = None
    loki_user: str | None = None
    loki_password: Secret | None = None
    loki_token: Secret | None = None
    loki_ca_file: str | None = None
    job_keepalive: bool = False
    # Where promises and history are kept: "durable" (data_dir) or "volatile" (runtime_dir).
    job_state: str = "durable"
    # Beyond these the machine takes no job; 0 turns a guard off.
    guard_disk_min_bytes: int = 512 * 2**20
    guard_inodes_min: int = 5000
    guard_memory_min_bytes: int = 64 * 2**20
    guard_temperature_max: int = 90
    # What is left behind may stay so long, and be so much; 0 is for ever, and any amount.
    clean_images_max_age_s: float = 30 * 86400.0
    clean_images_max_bytes: int = 0
    clean_agents_max_age_s: float = 86400.0

    @property
    def path_prefix(self) -> str:
        """What stands before every route: empty, or ``/kici``."""
        return self.base_path.rstrip("/")


def job_state_dir(settings: Settings) -> str:
    """Where the outbox and the history are: below the runtime directory when the operator
    would rather lose them with the power than wear a flash card out (``KICI_JOB_STATE``)."""
    return settings.runtime_dir if settings.job_state == "volatile" else settings.data_dir


class ResourceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """0 means undeclared (scaler spec 2.5)."""

    cpus: float = 0.0
    memory_bytes: int = 0


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    requests: ResourceSpec | None = None
    limits: ResourceSpec | None = None


class ResourceCap(msgspec.Struct, frozen=True, kw_only=True):
    """None or 0 means no limit."""

    max_cpu: float | None = None
    max_memory_bytes: int | None = None


class MachinePool(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    cap: ResourceCap


class WarmPool(msgspec.Struct, frozen=True, kw_only=True):
    enabled: bool = False
    size: int = 0
    idle_timeout_s: float = 300.0


class NetworkPolicy(msgspec.Struct, frozen=True, kw_only=True):
    allowlist: tuple[str, ...] = ()
    deny_all: bool = False
    host_access: bool | None = None
    # ``hostAccess`` as written, each checked: ``<IPv4|CIDR|*>[:<port|*>]`` or a bare port.
    host_access_rules: tuple[str, ...] = ()


class LabelSet(msgspec.Struct, frozen=True, kw_only=True):
    """One element of ``labelSets``. ``labels`` as written; ``enriched`` per scaler spec 2.2,
    lower-cased; ``gate`` are the mandatory labels that hold for this set."""

    labels: tuple[str, ...]
    enriched: tuple[str, ...]
    gate: tuple[str, ...] = ()
    # ``KICI_LABELS`` of an agent of this set (scaler spec 2.2 and 7.1): no OS, arch or host.
    agent_labels: tuple[str, ...] = ()
    resources: Resources | None = None
    env: dict[str, str] = {}
    backpressure_mode: str | None = None
    network_policy: NetworkPolicy | None = None
    image: str | None = None
    image_pull_policy: str = "IfNotPresent"
    volumes: tuple[str, ...] = ()
    container_socket: bool = False
    binary_path: str | None = None


class Scaler(msgspec.Struct, frozen=True, kw_only=True):
    """One element of ``scalers``. ``roles`` None means all roles."""

    name: str
    type: str
    max_agents: int
    label_sets: tuple[LabelSet, ...]
    mandatory_labels: tuple[str, ...] = ()
    roles: tuple[str, ...] | None = None
    warm_pool: WarmPool = WarmPool()
    orchestrator_url: str | None = None
    resource_cap: ResourceCap | None = None
    machine_pool: str | None = None
    host: str | None = None
    socket_path: str | None = None
    runtime: str = "auto"
    extra_hosts: tuple[str, ...] = ()
    network_isolation: bool = True
    enforce_cgroups: bool = False
    max_concurrent_spawns: int = 8
    # Why this scaler cannot work here (firecracker, event): it is shown, never matched.
    unsupported: str | None = None


class ScalerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The merged and checked content of ``scalers.yaml`` and ``scalers.d``."""

    global_max_agents: int = 50
    global_resource_cap: ResourceCap | None = None
    machine_pools: tuple[MachinePool, ...] = ()
    default_resources: Resources | None = None
    scalers: tuple[Scaler, ...] = ()
    warnings: tuple[str, ...] = ()


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything; made once by the supervisor and handed over by fork."""

    settings: Settings
    scalers: ScalerConfig
    # What is accepted but probably not meant; the supervisor logs each once at start.
    warnings: tuple[str, ...] = ()
