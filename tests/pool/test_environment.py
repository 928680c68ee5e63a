"""What a launched agent finds in its environment."""

import pytest

from kici.config.model import Resources, ResourceSpec
from kici.pool.environment import agent_environment, dial_back_url, labels_for
from kici.pool.resources import BadResources, read_resources, resolve
from tests.support.pool_world import config, label_set, scaler

SETTINGS = config(settings={"agent_env": {"HTTP_PROXY": "p"}}).settings
MIB, GIB = 2**20, 2**30


def environment(token="kat_x", **more):
    one = scaler("s1", label_set("Linux", "box", env=more.pop("env", {})), **more)
    return agent_environment(SETTINGS, one, one.label_sets[0], "scaler-fake-00000001", token)


# S42
def test_labels_are_the_configured_ones_then_identity():
    one = scaler("s1", label_set("Linux", "box"))
    assert labels_for(one, one.label_sets[0]) == (
        "Linux",
        "box",
        "kici:agent:fake",
        "kici:scaler:s1",
        "kici:role:builder",
        "kici:role:init-runner",
    )


# S65
def test_agent_dials_the_scalers_url_or_the_workers_or_loopback():
    one = scaler(orchestrator_url="ws://a/ws")
    assert dial_back_url(SETTINGS, one) == "ws://a/ws"
    named = config(settings={"orchestrator_url": "ws://b/ws"}).settings
    assert dial_back_url(named, scaler()) == "ws://b/ws"
    assert dial_back_url(SETTINGS, scaler()) == "ws://127.0.0.1:4000/ws"


# S67 S66
def test_token_is_only_there_in_token_mode():
    assert environment()["KICI_AGENT_TOKEN"] == "kat_x"
    assert "KICI_AGENT_TOKEN" not in environment(token=None)


# S80
@pytest.mark.parametrize(("roles", "value"), [((), ""), (("builder",), "builder"), (None, None)])
def test_roles_are_those_of_the_scaler(roles, value):
    assert environment(roles=roles).get("KICI_ROLES") == value


def test_label_sets_own_variables_come_last():
    seen = environment(env={"KICI_AGENT_ID": "mine", "X": "1"})
    assert (seen["KICI_AGENT_ID"], seen["X"], seen["HTTP_PROXY"]) == ("mine", "1", "p")
    assert seen["KICI_SCALER_MANAGED"] == "1"


# S54
def test_resources_are_mirrored_per_object_and_the_first_declared_wins():
    defaults = Resources(
        requests=ResourceSpec(cpus=0.5, memory_bytes=512 * MIB),
        limits=ResourceSpec(cpus=2, memory_bytes=2 * GIB),
    )
    flat = ResourceSpec(cpus=2, memory_bytes=3 * GIB)
    assert resolve(None, Resources(requests=flat, limits=flat), defaults) == (flat, flat)
    mixed = Resources(
        requests=ResourceSpec(cpus=1), limits=ResourceSpec(cpus=4, memory_bytes=8 * GIB)
    )
    assert resolve(None, mixed, defaults) == (
        ResourceSpec(cpus=1, memory_bytes=512 * MIB),
        ResourceSpec(cpus=4, memory_bytes=8 * GIB),
    )
    assert resolve(read_resources({"requests": {"cpus": 1}}), None) == (
        ResourceSpec(cpus=1),
        ResourceSpec(cpus=1),
    )


# S54
@pytest.mark.parametrize("memory", ["512", "2gb", "2Gi", "2t", " 2g", "2g ", ".5g", "1e3m", 5])
def test_malformed_memory_is_refused(memory):
    with pytest.raises(BadResources):
        read_resources({"limits": {"memory": memory}})


@pytest.mark.parametrize(
    ("text", "size"), [("512m", 512 * MIB), ("1.5g", 1_610_612_736), ("2 G", 2 * GIB), ("0m", 0)]
)
def test_memory_is_read_by_the_grammar(text, size):
    assert read_resources({"limits": {"memory": text}}).limits.memory_bytes == size
