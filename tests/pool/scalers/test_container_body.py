"""The create request and the small pure parts around it."""

import pytest

from kici.config.model import LabelSet, Resources, ResourceSpec, Scaler
from kici.pool.scalers.base import LaunchSpec
from kici.pool.scalers.container_body import body, limits
from kici.pool.scalers.engine import AUTH, DISK, FAILED, MISSING, RETRY, kind_of_text
from kici.pool.scalers.images import split_reference


def spec(given=None, **label_set):
    fields = {"labels": ("Linux", "GPU "), "enriched": ("linux", "gpu")} | label_set
    one = LabelSet(**fields)
    scaler = Scaler(name="box", type="container", max_agents=1, label_sets=(one,))
    return LaunchSpec(
        agent_id="a1",
        scaler=scaler,
        label_set=one,
        env={"KICI_AGENT_ID": "a1", "X": "worker"},
        limits=given,
    )


def made(one, **extra):
    fields = {"owner": "w1", "image": "i", "network": None, "socket_path": None, "extra_hosts": ()}
    return body(one, **(fields | extra))


# S102
def test_the_smallest_body_holds_nothing_that_was_not_asked_for():
    found = made(spec())
    assert set(found) == {"Image", "Env", "Labels", "HostConfig"}
    assert set(found["HostConfig"]) == {
        "AutoRemove", "PidsLimit", "SecurityOpt", "LogConfig", "Init",
    }  # fmt: skip
    assert found["Env"] == ["KICI_EXECUTION_MODE=bare-metal", "KICI_AGENT_ID=a1", "X=worker"]
    assert found["Labels"] == {
        "kici-managed": "true",
        "kici.worker": "w1",
        "kici-scaler-name": "box",
        "kici-agent-id": "a1",
        "kici-labels": "gpu,linux",
    }


# S102
def test_each_name_is_once_in_the_environment_and_the_label_set_wins():
    found = made(spec(env={"X": "set", "KICI_EXECUTION_MODE": "other"}))["Env"]
    assert sorted(found) == ["KICI_AGENT_ID=a1", "KICI_EXECUTION_MODE=other", "X=set"]


# S100 S101
def test_the_network_is_named_only_with_isolation():
    found = made(spec(), network="kici-agent-net")
    assert found["NetworkingConfig"] == {"EndpointsConfig": {"kici-agent-net": {}}}
    assert found["HostConfig"]["NetworkMode"] == "kici-agent-net"


# S103
@pytest.mark.parametrize(
    ("asked", "socket", "binds"),
    [
        (True, "/s", ["/a:/b", "/s:/s"]),
        (True, None, ["/a:/b"]),
        (False, "/s", ["/a:/b"]),
    ],
)
def test_the_engine_socket_follows_the_volumes(asked, socket, binds):
    one = spec(volumes=("/a:/b",), container_socket=asked)
    assert made(one, socket_path=socket)["HostConfig"]["Binds"] == binds


# S106
@pytest.mark.parametrize(
    ("given", "own", "expected"),
    [
        (ResourceSpec(cpus=2), ResourceSpec(memory_bytes=9), ResourceSpec(cpus=2)),
        (ResourceSpec(), ResourceSpec(memory_bytes=9), ResourceSpec(memory_bytes=9)),
        (None, ResourceSpec(cpus=1), ResourceSpec(cpus=1)),
        (None, None, ResourceSpec()),
    ],
)
def test_the_managers_limits_come_before_the_label_sets(given, own, expected):
    resources = Resources(limits=own) if own else None
    assert limits(spec(given, resources=resources)) == expected


# S106
def test_limits_become_whole_numbers_and_absent_ones_are_left_out():
    host = made(spec(ResourceSpec(cpus=1.005)))["HostConfig"]
    assert host["NanoCpus"] == 1_005_000_000
    assert isinstance(host["NanoCpus"], int)
    assert "Memory" not in host
    host = made(spec(ResourceSpec(memory_bytes=5)))["HostConfig"]
    assert (host["Memory"], host["MemorySwap"]) == (5, 5)
    assert "NanoCpus" not in host


# S104
@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("a", ("a", "latest")),
        ("a:1", ("a", "1")),
        ("r:5000/a", ("r:5000/a", "latest")),
        ("r:5000/a:1", ("r:5000/a", "1")),
        ("a@sha256:x", ("a", "sha256:x")),
        ("r:5000/a/b:2@sha256:x", ("r:5000/a/b:2", "sha256:x")),
    ],
)
def test_an_image_reference_is_split(reference, parts):
    assert split_reference(reference) == parts


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write /x: no space left on device", DISK),
        ("toomanyrequests: You have reached your pull rate limit", RETRY),
        ("pull access denied for x", AUTH),
        ("unauthorized: authentication required", AUTH),
        ("manifest unknown: manifest unknown", MISSING),
        ("dial tcp 127.0.0.1:1: connect: connection refused", RETRY),
        ("net/http: TLS handshake timeout", RETRY),
        ("something else", FAILED),
    ],
)
def test_what_engines_say_is_put_into_classes(text, kind):
    assert kind_of_text(text) == kind
