import pytest

from kici.config.names import edits, is_tolerated, nearest, unknown_names
from kici.config.settings import NAMES


# W15, W16
@pytest.mark.parametrize(
    "name",
    ["KICI_CACHE", "KICI_DEV", "KICI_E2E_X", "KICI_AGENT_ENV_X", "KICI_X_ENV_PROBE", "KICI_CONFIG",
     "KICI_ORCHESTRATOR_URL", "KICI_HOST", "KICI_DATABASE_URL", "KICI_SECRET_KEY",
     "KICI_STORAGE_FORCE_PATH_STYLE", "KICI_COLD_STORE_BUCKET", "KICI_CLUSTER_RAFT_HEARTBEAT_MS",
     "KICI_REROUTE_MAX_HOPS", "KICI_INGEST_ANY", "KICI_DEPLOY_MODE", "KICI_PLATFORM_URL",
     "KICI_SERVER_TLS_CERT_PATH", "KICI_SERVER_PORT", "KICI_MODE", "KICI_TEST_MODE",
     "KICI_CLUSTER_AUTO_ROTATE_CREDENTIALS", "KICI_SCALER_PROVISION_BACKOFF_MAX_MS"],
)  # fmt: skip
def test_a_name_that_a_reference_version_knows_is_no_mistake(name):
    assert is_tolerated(name) or name in NAMES
    assert unknown_names([name], NAMES) == []


# W13
@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("KICI_PROT", "KICI_PORT"),
        ("KICI_CLUSTER_COORDINATER_URL", "KICI_CLUSTER_COORDINATOR_URL"),
        ("KICI_JOIN_TOKEN", "KICI_CLUSTER_JOIN_TOKEN"),
        ("KICI_LOGLEVEL", "KICI_LOG_LEVEL"),
        ("KICI_ADMIN_TOKEN_FLIE", "KICI_ADMIN_TOKEN_FILE"),
        ("KICI_SOMETHING_ELSE_ENTIRELY", None),
    ],
)
def test_a_slip_gets_the_nearest_name(slip, meant):
    assert unknown_names([slip], NAMES) == [slip]
    assert nearest(slip, NAMES) == meant


def test_names_without_our_prefix_are_nobodys_business():
    assert unknown_names(["PATH", "MODE", "KICK_IT"], NAMES) == []


def test_edits_counts_insertions_deletions_and_replacements():
    assert edits("kitten", "sitting", 9) == 3
    assert edits("", "abc", 9) == 3
    assert edits("same", "same", 9) == 0
    assert edits("a", "abcdefgh", 2) == 3
