"""Which engine a scaler means: probe order, hosts, TLS."""

import pytest

from kici.config.model import LabelSet, Scaler
from kici.pool.scalers.engine_target import NoEngine, find_target

ENVIRON = {"XDG_RUNTIME_DIR": "/run/user/7", "HOME": "/home/u"}
DOCKER = "/var/run/docker.sock"
PODMAN = "/run/podman/podman.sock"
ROOTLESS = "/run/user/7/podman/podman.sock"


def scaler(**extra):
    label_set = LabelSet(labels=("x",), enriched=("x",))
    return Scaler(name="s", type="container", max_agents=1, label_sets=(label_set,), **extra)


def found(there, environ=ENVIRON, **extra):
    asked = []

    def usable(path):
        asked.append(path)
        return path in there

    return find_target(scaler(**extra), environ, usable), asked


# S98
@pytest.mark.parametrize(
    ("there", "runtime", "path", "name"),
    [
        ({DOCKER, PODMAN, ROOTLESS}, "auto", DOCKER, "docker"),
        ({PODMAN, ROOTLESS}, "auto", PODMAN, "podman"),
        ({ROOTLESS}, "auto", ROOTLESS, "podman"),
        ({DOCKER, PODMAN}, "podman", PODMAN, "podman"),
        ({DOCKER, PODMAN}, "docker", DOCKER, "docker"),
        ({"/run/user/7/docker.sock"}, "auto", "/run/user/7/docker.sock", "docker"),
        ({"/home/u/.docker/run/docker.sock"}, "auto", "/home/u/.docker/run/docker.sock", "docker"),
    ],
)
def test_the_first_usable_socket_in_the_specs_order_is_taken(there, runtime, path, name):
    target, asked = found(there, runtime=runtime)
    assert (target.base_url, target.socket_path) == (f"unix://{path}", path)
    assert target.runtime == name
    assert target.on_local_host
    assert asked[: asked.index(path) + 1] == asked


# S98
def test_the_order_of_the_probes_is_the_specs():
    with pytest.raises(NoEngine, match=r"no container runtime found.*DOCKER_HOST not set"):
        found(set())
    _target, asked = found({"/home/u/.docker/run/docker.sock"})
    assert asked[:3] == [DOCKER, PODMAN, ROOTLESS]


# S98
@pytest.mark.parametrize("environ", [{}, {"XDG_RUNTIME_DIR": ""}])
def test_an_unset_or_empty_runtime_directory_is_not_probed(environ):
    asked = []
    with pytest.raises(NoEngine):
        find_target(scaler(), environ, lambda path: bool(asked.append(path)))
    assert asked == [DOCKER, PODMAN]


# S99
@pytest.mark.parametrize(
    ("path", "runtime", "name"),
    [
        ("/x/podman.sock", "docker", "podman"),
        ("/opt/podman/api.sock", "auto", "podman"),
        ("/x/eng.sock", "podman", "docker"),
    ],
)
def test_a_given_socket_is_not_probed_and_names_its_runtime_by_its_path(path, runtime, name):
    target, asked = found(set(), socket_path=path, runtime=runtime)
    assert asked == []
    assert (target.runtime, target.socket_path) == (name, path)


# S90 S103
@pytest.mark.parametrize(
    ("host", "url", "tls"),
    [
        ("tcp://10.0.0.9:2375", "http://10.0.0.9:2375", False),
        ("tcp://10.0.0.9:2376", "https://10.0.0.9:2376", True),
        ("http://10.0.0.9", "http://10.0.0.9:2375", False),
        ("https://engine.example", "https://engine.example:2376", True),
        ("https://engine.example:9000", "https://engine.example:9000", True),
        ("10.0.0.9:2375", "http://10.0.0.9:2375", False),
        ("tcp://[fd00::1]:2375", "http://[fd00::1]:2375", False),
        ("ssh://u@box", "ssh://u@box", False),
        ("unix:///x/e.sock", "unix:///x/e.sock", False),
    ],
)
def test_a_host_is_remote_and_shares_no_socket(host, url, tls):
    target, asked = found({DOCKER}, {"DOCKER_CERT_PATH": "/certs"}, host=host)
    assert asked == []
    assert (target.base_url, target.tls) == (url, tls)
    assert target.cert_dir == ("/certs" if tls else None)
    assert not target.on_local_host
    assert target.socket_path is None


@pytest.mark.parametrize("host", ["ftp://x", "tcp://", "http://"])
def test_a_host_that_is_none_is_said_to_be(host):
    with pytest.raises(NoEngine, match="host must be"):
        found(set(), host=host)


def test_docker_host_counts_only_when_nothing_else_is_named_or_there():
    environ = {"DOCKER_HOST": "tcp://far:2375"}
    assert found(set(), environ)[0].base_url == "http://far:2375"
    assert found({DOCKER}, environ)[0].socket_path == DOCKER
    assert found(set(), environ, host="tcp://near:2375")[0].base_url == "http://near:2375"
    environ = {"CONTAINER_HOST": "unix:///run/podman.sock", "DOCKER_HOST": "tcp://far:1"}
    assert found(set(), environ, runtime="podman")[0].base_url == "unix:///run/podman.sock"
