"""``job.dispatch`` is built from ``job.reroute`` as the specifications say."""

import json
from pathlib import Path

import pytest

from kici.contracts.wire import encode
from kici.pool.dispatch import LIFTED, Refused, build_dispatch, read_offer
from tests.support.pool_world import reroute


def dispatch(**more):
    spec = read_offer(reroute(**more))
    return json.loads(encode(build_dispatch(spec, message_id="m", timestamp_ms=1)))


# A28 A30 A33 P46 P47 W117 W118
def test_keys_are_lifted_copied_and_forwarded():
    config = {
        "name": "build",
        "lockFileUrl": "lock",
        "secrets": {"A": "1"},
        "namespacedSecrets": {"prod": {"B": "2"}},
        "runPublicKey": "key",
        "npmRegistries": [{"url": "https://r", "alwaysAuth": True, "token": "t"}],
        "installEnvSecrets": {"C": "3"},
        "containerRegistryAuth": {"user": "u"},
        "cacheOrgId": "org",
        "cacheRepoId": "repo",
        "cacheRefScope": "shared",
    }
    built = dispatch(
        jobConfig=config,
        cloneToken="ghs",
        sourceTarUrl="https://s",
        sourceTarDigest="d1",
        sourceTarHash="h1",
        depsUrl="https://d",
        depsHash="h2",
    )
    assert built["token"] == "ghs"
    for key in set(LIFTED) - {"cloneToken", "sourceAuth", "workflowAuth"}:
        if key in config:
            assert built[key] == config[key]
        assert key not in built["jobConfig"]
    assert "cloneToken" not in built["jobConfig"]
    assert (built["orgId"], built["repoId"], built["cacheRefScope"]) == ("org", "repo", "shared")
    assert built["jobConfig"]["cacheOrgId"] == "org"
    assert built["lockFileUrl"] == "lock"
    assert (built["sourceTarUrl"], built["sourceTarDigest"]) == ("https://s", "d1")
    assert (built["depsUrl"], built["depsHash"], built["requestId"]) == ("https://d", "h2", "req-1")


# A28 A32 A3
def test_required_strings_are_there_though_empty_and_empty_extras_are_not():
    built = dispatch(
        drop=("repoUrl", "ref", "sha", "requestId"),
        jobConfig={"npmRegistries": [], "installEnvSecrets": {}, "secrets": {}},
    )
    assert (built["repoUrl"], built["ref"], built["sha"], built["lockFileUrl"]) == ("", "", "", "")
    assert built["jobConfig"] == {}
    assert not {"npmRegistries", "installEnvSecrets", "secrets", "requestId"} & set(built)
    assert None not in built.values()


def test_payload_serves_as_configuration_only_without_one():
    assert dispatch(drop=("jobConfig",), payload={"name": "p"})["jobConfig"] == {"name": "p"}
    assert dispatch(payload={"name": "p"})["jobConfig"] == {"name": "build"}


# A31
def test_token_and_source_auth_never_contradict():
    ssh = {"kind": "ssh", "secret": "k", "sshHostKeyPolicy": "pinned"}
    built = dispatch(jobConfig={"sourceAuth": ssh}, cloneToken="t")
    assert "sourceAuth" not in built
    assert built["token"] == "t"
    pinned = ssh | {"sshKnownHostsPem": "host key"}
    built = dispatch(jobConfig={"sourceAuth": pinned}, cloneToken="t")
    assert built["sourceAuth"] == pinned
    assert "token" not in built


def test_refusal_does_not_repeat_what_the_offer_holds():
    with pytest.raises(Refused) as refusal:
        read_offer(reroute(runId=5, jobConfig={"secrets": {"A": "s3cr3t"}}))
    assert "s3cr3t" not in str(refusal.value)
    with pytest.raises(Refused):
        read_offer(b"{")


def test_recorded_reroute_gives_the_recorded_dispatch():
    path = Path(__file__).parent / "vectors/recorded-dispatch.json"
    recorded = json.loads(path.read_text())
    spec = read_offer(json.dumps(recorded["reroute"]).encode())
    built = json.loads(encode(build_dispatch(spec, message_id="m", timestamp_ms=1)))
    # The reference forgets the request id (agent spec 3.1).
    assert built.pop("requestId") == recorded["reroute"]["requestId"]
    varying = {"messageId": "", "timestamp": 0}
    assert built | varying == recorded["dispatch"] | varying


# P72
def test_a_job_config_that_is_nested_too_deeply_is_refused_and_breaks_nothing():
    """It may be read at one depth of the stack and not be written at another."""
    for depth in (150, 960, 985, 990, 2000):
        deep = json.loads("[" * 90 + "]" * 90)
        raw = reroute(jobConfig={"env": deep}).replace(b"[" * 90, b"[" * depth)
        with pytest.raises(Refused, match=r"nested deeper|Invalid job\.reroute"):
            read_offer(raw.replace(b"]" * 90, b"]" * depth))
    assert read_offer(reroute(jobConfig={"env": deep}))
