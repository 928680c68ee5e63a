"""Which ``KICI_*`` names exist, and what to say about one that does not (spec 2.3, 2.6).

An operator may share one environment file between roles and versions: every name that
either reference version knows is tolerated (W16); only names of ``settings.py`` matter.
"""

from collections.abc import Iterable

PREFIX = "KICI_"


def _words(text: str) -> list[str]:
    return text.split()


#: Known to the reference or to another of our programs, without effect on a worker.
_TOLERATED = _words("""
CACHE DEV CONFIG MODE PLATFORM_URL SERVER_TLS_CERT_PATH DATABASE_URL AUTO_MIGRATE
PLATFORM_TOKEN DASHBOARD_URL PROVENANCE_ISSUER WEBHOOK_PUBLIC_URL
GITHUB_APP_NAME_REFRESH_INTERVAL_MS USER_CACHE_QUOTA_BYTES USER_CACHE_TTL_MS
LOCKFILE_CACHE_MAX LOCKFILE_CACHE_TTL_MS LOCKFILE_CACHE_MAX_BYTES CACHE_TTL_DAYS
CACHE_BUILD_TIMEOUT_MS CACHE_MAX_TARBALL_BYTES WEBHOOK_PAYLOAD_DIR QUEUE_MAX_DEPTH
QUEUE_TIMEOUT_MS QUEUE_BACKPRESSURE_THRESHOLD WORKER_CONCURRENCY CONCURRENCY_WAIT_TIMEOUT_MS
STALE_DETECTOR_SCAN_INTERVAL_MS STALE_DETECTOR_THRESHOLD_MULTIPLIER
JOB_HEARTBEAT_INTERVAL_MS AGENT_MAX_RECONNECT_DELAY_MS SECRET_KEY SECRET_KEY_FILE
SECRET_KEY_OLD SECRET_KEY_FILE_OLD BOOTSTRAP_ADMIN_TOKEN PG_CUSTOMER_SECRETS ROSTER_GRACE_MS
ROSTER_TTL_MS HOST_REBOOT_DEADLINE_MS ORCHESTRATOR_HOST_AGENT_ID MAX_FANOUT_HOSTS
EVENT_LOG_MAX_PAYLOAD_BYTES CLUSTER_NAME CLUSTER_ADDRESS CLUSTER_PEERS
CLUSTER_RAFT_ELECTION_TIMEOUT_MIN_MS CLUSTER_RAFT_ELECTION_TIMEOUT_MAX_MS
CLUSTER_RAFT_HEARTBEAT_MS CLUSTER_PEER_STALE_TIMEOUT_MS CLUSTER_ELECTION_GRACE_PERIOD_MS
CLUSTER_SINGLE_NODE CLUSTER_TRUSTED_PROXIES CLUSTER_INSTANCE_HEARTBEAT_MS
CLUSTER_SETTINGS_CACHE_TTL_MS GLOBAL_WORKFLOWS_ENABLED REROUTE_SPAWN_WINDOW_MS
REROUTE_ACK_TIMEOUT_MS REROUTE_MAX_HOPS REROUTE_FLAP_GRACE_MS UNROUTABLE_GRACE_MS
SCALER_PENDING_SWEEP_INTERVAL_MS SCALER_CLAIM_RETENTION_MS RUN_RETENTION_DAYS
AUDIT_RETENTION_DAYS PROVENANCE_RETENTION_DAYS HELD_RUN_RETENTION_DAYS STEP_LOG_TTL_DAYS
DISPATCH_QUEUE_TTL_DAYS CHECK_RUN_TRACKING_TTL_DAYS WEBHOOK_DEDUP_TTL_MS LOCK_FILE_MAX_BYTES
MAX_GITHUB_PAYLOAD_BYTES ORCHESTRATOR_PROVENANCE_ISSUER INDEPENDENT_SECRETS
INDEPENDENT_IDENTITY DEV_IDENTITY_KEY_FILE AGENT_BINARY_SOURCE BACKUP_STALENESS_WARN_HOURS
OWNERSHIP_DB_CHECK_TIMEOUT_MS ORCH_RECONNECT_REPLAY_WINDOW_HOURS TEST_MODE
TEST_EVENT_FAIL_FIRST_N SKIP_S3_SENTINEL_VALIDATION
""")

_TOLERATED_PREFIXES = tuple(
    PREFIX + prefix
    for prefix in _words("""
    E2E_ AGENT_ENV_ COLD_STORE_ STORAGE_ EVENT_ROUTER_ DEPLOY_ DB_ ARTIFACT_ INGEST_
    GLOBAL_EVAL_ SCALER_REAP_ SCALER_PROVISION_ CONTENT_CACHE_ LOG_STORAGE_SEGMENT_FLUSH_
    ORCHESTRATOR_KMS_ ORCHESTRATOR_SIGNER_ COORDINATOR_
    """)
)

#: Names that only the reference's YAML/database overlay has: likely slips, with advice.
ADVICE = {
    "KICI_SERVER_PORT": "set KICI_PORT",
    "KICI_SERVER_BASE_PATH": "set KICI_BASE_PATH",
    "KICI_SERVER_LOG_LEVEL": "set KICI_LOG_LEVEL",
    "KICI_INSTANCE_ID": "set KICI_CLUSTER_INSTANCE_ID",
    "KICI_INSTANCE_MODE": "set KICI_CLUSTER_ROLE",
    "KICI_NODE_ENV": "it has no effect",
    "KICI_CLUSTER_AUTO_ROTATE_CREDENTIALS": "it has no effect on a worker",
    "KICI_CONFIG": "a worker reads its settings from the environment only",
}

#: Settings of our other commands (kici, kici-admin, kici-coordinator), which an operator's
#: shell may well export beside the worker's.
_OTHER_COMMANDS = frozenset({"KICI_URL", "KICI_TOKEN", "KICI_ADMIN_URL"})

_TOLERATED_NAMES = frozenset(PREFIX + name for name in _TOLERATED) | _OTHER_COMMANDS


def is_tolerated(name: str) -> bool:
    """True for a name that is no setting of ours and still no mistake."""
    return (
        name in _TOLERATED_NAMES
        or name in ADVICE
        or name.startswith(("KICI_SERVER_", "KICI_COORDINATOR_", *_TOLERATED_PREFIXES))
        or "_ENV_PROBE" in name
    )


def unknown_names(environ: Iterable[str], settings: Iterable[str]) -> list[str]:
    """The ``KICI_*`` names that mean nothing to anybody, sorted."""
    ours = frozenset(settings)
    named = (name for name in environ if name.startswith(PREFIX))
    return sorted(name for name in named if name not in ours and not is_tolerated(name))


def nearest(name: str, settings: Iterable[str]) -> str | None:
    """The known name that only lacks its middle, else the closest within the spec's limit."""
    limit = max(2, len(name) // 4)
    ours = frozenset(settings)
    longer = [other for other in ours if other.endswith(name.removeprefix(PREFIX[:-1]))]
    if len(longer) == 1:  # KICI_JOIN_TOKEN for KICI_CLUSTER_JOIN_TOKEN
        return longer[0]
    known = ours | _TOLERATED_NAMES | ADVICE.keys()
    # On a tie a setting of ours is likelier to be meant than a name without effect.
    best = min((edits(name, other, limit), other not in ours, other) for other in known)
    return best[2] if best[0] <= limit else None


def edits(left: str, right: str, limit: int) -> int:
    """Levenshtein distance; anything above ``limit`` may be reported as ``limit + 1``."""
    if abs(len(left) - len(right)) > limit:
        return limit + 1
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        above, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (a != b))
    return row[-1]
