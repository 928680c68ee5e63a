"""Every variable that a worker reads: one row a setting.

The table is the only place that knows a name, its parser and its default;
``docs/configuration.md`` and ``conf/worker.env`` are generated from it
(``config/reference.py``), and a test holds the committed files against it.
"""

from kici.config.parsers import (
    base_path,
    boolean,
    choice,
    comma_list,
    days,
    duration,
    integer,
    milliseconds,
    or_off,
    secret,
    size,
    text,
)
from kici.config.setting import Section, Setting
from kici.config.setting import row as _row
from kici.protocol.urls import check_coordinator_url, check_url

#: Fields that are no field of ``Settings``: ``load.py`` folds them into one.
INTERMEDIATE = ("coordinator_url", "admin_token_file", "loki_password_file", "loki_token_file")

AGENT_ENV_PREFIX = "KICI_AGENT_ENV_"
DEV_VARIABLE = "KICI_DEV"


def _coordinator_urls(value: str) -> tuple[str, ...]:
    return tuple(check_coordinator_url(url) for url in comma_list(value))


def _coordinator_url(value: str) -> str:
    return check_coordinator_url(value.strip())


def _agent_url(value: str) -> str:
    return check_url(value.strip(), ("ws", "wss"))


def _loki_url(value: str) -> str:
    return check_url(value.strip(), ("http", "https"))


# A row is two or three lines; with one argument a line the table would be four pages.
# fmt: off
SECTIONS: tuple[Section, ...] = (
    Section("Cluster", (
        _row("KICI_CLUSTER_ROLE", "role", choice("worker", "coordinator"), "worker", "worker",
             "seed", "What this process is. `coordinator` is another program, `kici-coordinator`."),
        _row("KICI_CLUSTER_COORDINATOR_URL", "coordinator_url", _coordinator_url, "URL", "", "seed",
             "WebSocket URL of the coordinator's peer endpoint, for example "
             "`wss://coordinator:4000/ws/peer`. `/ws/peer` is appended when it is missing; `http` "
             "and `https` mean `ws` and `wss`. Required, here or in the plural."),
        _row("KICI_CLUSTER_COORDINATOR_URLS", "coordinator_urls", _coordinator_urls,
             "URLs, comma-separated", "", "reference",
             "Several coordinators, one connection each. Wins over the singular."),
        _row("KICI_CLUSTER_JOIN_TOKEN", "join_token", secret, "text (secret)", "", "seed",
             "One-time token of `kici-admin peer create-token --role worker`. Needed at the first "
             "start only: then a credential is kept."),
        _row("KICI_CLUSTER_JOIN_TOKEN_FILE", "join_token_file", text, "path", "", "ours",
             "File with the join token, emptied after use. A missing or empty file is no error."),
        _row("KICI_CLUSTER_CREDENTIAL_FILE", "credential_file", text, "path",
             "~/.kici/peer-credential", "seed",
             "Where the persistent credential is kept (0600). `~` is `$HOME`."),
        _row("KICI_CLUSTER_INSTANCE_ID", "instance_id", text, "text", "", "seed",
             "Name of this worker in logs and at the coordinator. When unset, one is made up at "
             "the first start and kept in `<data directory>/instance-id`."),
        _row("KICI_CLUSTER_PEER_HEARTBEAT_INTERVAL_MS", "heartbeat_interval_s", milliseconds(),
             "milliseconds", "30000", "reference", "How often a coordinator is told our capacity."),
        _row("KICI_CLUSTER_PEER_MAX_RECONNECT_DELAY_MS", "max_reconnect_delay_s", milliseconds(),
             "milliseconds", "60000", "reference", "Ceiling of the reconnect back-off."),
    )),
    Section("Scaler and agents", (
        _row("KICI_SCALER_CONFIG_PATH", "scaler_config_path", text, "path", "", "seed",
             "The scaler file (see `scalers.yaml`). Unset means no agents are started."),
        _row("KICI_SCALER_CONFIG_DIR", "scaler_config_dir", text, "path", "", "reference",
             "Directory of further scaler files: its `*.yaml` and `*.yml`, in name order."),
        _row("KICI_SCALER_SPAWN_TIMEOUT_MS", "spawn_timeout_s", milliseconds(1000),
             "milliseconds >= 1000", "300000", "reference",
             "How long an agent may take from its launch to its registration."),
        _row("KICI_SCALER_SPILL_OVER", "spill_over", boolean, "true | false", "false", "ours",
             "When the best matching label set has no room, take the next best that has. The "
             "original lets the job wait."),
        _row("KICI_ORCHESTRATOR_URL", "orchestrator_url", _agent_url, "URL", "", "reference",
             "Where agents dial back to. Default: `ws://127.0.0.1:<port>/ws`."),
        _row("KICI_MACHINE_LEDGER_DIR", "machine_ledger_dir", text, "path", "", "reference",
             "Where `machinePools` are accounted for all workers of this machine. Default: "
             "`/var/lib/kici/scaler-ledger`, else the user's state directory."),
        _row("KICI_AGENT_AUTH", "agent_auth", choice("token", "none"), "token | none", "token",
             "reference", "Whether an agent must show its token. `none` needs a loopback "
             "`KICI_HOST`, unless KICI_INSECURE_AGENT_AUTH is true."),
        _row("KICI_INSECURE_AGENT_AUTH", "insecure_agent_auth", boolean, "true | false", "false",
             "ours", "Allow `KICI_AGENT_AUTH=none` on an address that others can reach."),
        _row("KICI_AGENT_TOKEN_TTL_MS", "agent_token_ttl_s", milliseconds(1000),
             "milliseconds >= 1000", "3600000", "reference",
             "How long an agent's token can be used to connect."),
        _row("KICI_AGENT_TOKENS_FILE", "agent_tokens_file", text, "path", "", "ours",
             "SHA-256 digests of the tokens of agents that are not started by the scaler."),
        _row("KICI_DISPATCH_ACK_TIMEOUT_MS", "dispatch_ack_timeout_s", milliseconds(1000),
             "milliseconds >= 1000", "10000", "reference",
             "How long an agent may take to acknowledge a job."),
        _row("KICI_ADOPT_GRACE", "adopt_grace_s", duration(), "duration", "120s", "ours",
             "How long a running job may be without its agent after a restart."),
    )),
    Section("Jobs", (
        _row("KICI_DRAIN_TIMEOUT", "drain_timeout_s", duration(), "duration", "5m", "ours",
             "How long a stop waits for running jobs before it cancels them."),
        _row("KICI_QUEUE_LIMIT", "queue_limit", integer(0, 100_000), "number", "64", "ours",
             "Jobs that may wait for a free slot; more are refused."),
        _row("KICI_QUEUE_TIMEOUT", "queue_timeout_s", duration(1), "duration", "1h", "ours",
             "How long a job may wait for a slot before it is reported as failed."),
        _row("KICI_LOG_SPOOL_MAX", "log_spool_max_bytes", size, "size", "64m", "ours",
             "Bound of the job logs kept while the coordinator is away."),
        _row("KICI_LOG_SPOOL_DIR", "log_spool_dir", text, "path", "", "ours",
             "Where they are kept. Default: below the runtime directory."),
        _row("KICI_OUTBOX_MAX_AGE", "outbox_max_age_s", duration(60), "duration", "1d", "ours",
             "How long an unconfirmed result is offered again."),
        _row("KICI_JOB_STATE", "job_state", choice("durable", "volatile"), "durable | volatile",
             "durable", "ours", "`volatile` keeps unconfirmed results and the history in the "
             "runtime directory, which should be on a tmpfs: nothing is written to a flash card "
             "by a job. They outlive our restarts; a power cut or reboot loses the results that "
             "no coordinator has confirmed, and it must find out by itself that jobs are gone."),
        _row("KICI_JOB_KEEPALIVE", "job_keepalive", boolean, "true | false", "false", "ours",
             "Repeat `running` for long jobs, for coordinators that give silent ones up."),
    )),
    Section("Guards", (
        _row("KICI_GUARD_DISK_MIN", "guard_disk_min_bytes", or_off(size), "size | off", "512m",
             "ours", "Below this much free disk no job is taken, until there is a fifth more. "
             "Looked at: the data, runtime and temporary directories, `TMPDIR` of label sets, "
             "and where a local container engine keeps its images."),
        _row("KICI_GUARD_INODES_MIN", "guard_inodes_min", or_off(integer(1, 10**12)),
             "number | off", "5000", "ours", "The same for free inodes."),
        _row("KICI_GUARD_MEMORY_MIN", "guard_memory_min_bytes", or_off(size), "size | off", "64m",
             "ours", "The same for available memory."),
        _row("KICI_GUARD_TEMPERATURE_MAX", "guard_temperature_max", or_off(integer(1, 200)),
             "degrees Celsius | off", "90", "ours", "Above this no job is taken, until it is 5 "
             "degrees cooler. On a Raspberry Pi, which slows down at 80, use 80."),
    )),
    Section("Cleaning", (
        _row("KICI_CLEAN_IMAGES_MAX_AGE", "clean_images_max_age_s", or_off(duration()),
             "duration | off", "30d", "ours", "An image that this worker pulled, that no label "
             "set names, and that no container was made of for so long, is deleted. Images of "
             "others never are, nor one that any container uses."),
        _row("KICI_CLEAN_IMAGES_MAX", "clean_images_max_bytes", or_off(size), "size | off", "off",
             "ours", "Bound of all images that this worker pulled into one engine; beyond it "
             "those of the same kind go, the longest unused first. Layers that two images share "
             "count twice."),
        _row("KICI_CLEAN_AGENTS_MAX_AGE", "clean_agents_max_age_s", or_off(duration()),
             "duration | off", "1d", "ours", "Directories of dead host agents that an earlier "
             "instance id of this worker left below the data directory are deleted when they are "
             "so old; those of the present one go as soon as they are found."),
    )),
    Section("HTTP", (
        _row("KICI_PORT", "port", integer(0, 65535), "0 to 65535 (0: any free port)", "4000",
             "seed", "Port of health, status page and agents."),
        _row("KICI_HOST", "host", text, "address", "0.0.0.0", "reference", "Address to listen on."),
        _row("KICI_BASE_PATH", "base_path", base_path, "path", "/", "reference",
             "Prefix of all routes."),
        _row("KICI_ADMIN_TOKEN", "admin_token", secret, "text (secret)", "", "ours",
             "Bearer token that changing requests must carry. Unset: all who reach the port may."),
        _row("KICI_ADMIN_TOKEN_FILE", "admin_token_file", text, "path", "", "ours",
             "File with that token."),
        _row("KICI_ALLOWED_HOSTS", "allowed_hosts", comma_list, "names, comma-separated", "",
             "ours", "Further `Host` values that browsers may use."),
    )),
    Section("Files", (
        _row("KICI_DATA_DIR", "data_dir", text, "path", "", "reference",
             "Durable state. Default: the first that can be written of `/var/lib/kici`, "
             "`$XDG_STATE_HOME/kici` (`~/.local/state/kici`), `<temporary directory>/kici-data`."),
        _row("KICI_RUNTIME_DIR", "runtime_dir", text, "path", "", "ours",
             "Sockets and other files that end with the process. Default: `run` below the data "
             "directory."),
    )),
    Section("Logs", (
        _row("KICI_LOG_LEVEL", "log_level", choice("debug", "info", "warn", "error"),
             "debug | info | warn | error", "info", "seed", "Least level that is written."),
        _row("KICI_LOG_FORMAT", "log_format", choice("auto", "plain", "json"),
             "auto | plain | json", "auto", "reference",
             "`auto`: text on a terminal, else JSON lines.", lenient=True),
        _row("KICI_LOG_DIR", "log_dir", text, "path", "", "reference",
             "Also write log files here, one a day."),
        _row("KICI_LOG_MAX_SIZE", "log_max_size_bytes", size, "size", "500m", "reference",
             "Size at which a log file is closed and a new one begun."),
        _row("KICI_LOG_RETENTION_DAYS", "log_retention_days", days, "days", "7", "reference",
             "How long log files are kept."),
        _row("KICI_LOG_TOTAL_MAX", "log_total_max_bytes", or_off(size), "size | off", "off", "ours",
             "Bound of all log files together: beyond it the oldest go."),
        _row("KICI_LOKI_URL", "loki_url", _loki_url, "URL", "", "ours",
             "Send logs to this Loki, for example `https://loki:3100`."),
        _row("KICI_LOKI_TENANT", "loki_tenant", text, "text", "", "ours", "`X-Scope-OrgID`."),
        _row("KICI_LOKI_USER", "loki_user", text, "text", "", "ours",
             "Basic authentication: name."),
        _row("KICI_LOKI_PASSWORD", "loki_password", secret, "text (secret)", "", "ours",
             "Basic authentication: password."),
        _row("KICI_LOKI_PASSWORD_FILE", "loki_password_file", text, "path", "", "ours",
             "File with that password."),
        _row("KICI_LOKI_TOKEN", "loki_token", secret, "text (secret)", "", "ours", "Bearer token."),
        _row("KICI_LOKI_TOKEN_FILE", "loki_token_file", text, "path", "", "ours",
             "File with that token."),
        _row("KICI_LOKI_CA_FILE", "loki_ca_file", text, "path", "", "ours",
             "Certificates to trust, instead of the system's."),
    )),
)
# fmt: on

SETTINGS: tuple[Setting, ...] = tuple(row for section in SECTIONS for row in section.settings)
BY_NAME: dict[str, Setting] = {row.name: row for row in SETTINGS}
NAMES: tuple[str, ...] = tuple(BY_NAME)
