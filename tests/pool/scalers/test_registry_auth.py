"""Registry credentials: files of both worlds, helpers, and what is broken."""

import base64
import json

import pytest

from kici.pool.scalers.registry_auth import BadCredentials, find_credentials, registry_of


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home" / ".docker").mkdir(parents=True)
    (tmp_path / "run" / "containers").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    return tmp_path


def environ(home):
    return {
        "HOME": str(home / "home"),
        "XDG_RUNTIME_DIR": str(home / "run"),
        "PATH": f"{home / 'bin'}:/usr/bin:/bin",
    }


def docker_config(home, content):
    path = home / "home" / ".docker" / "config.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def auth(user, password):
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def user_of(home, repository, runtime="docker"):
    found = find_credentials(repository, environ(home), runtime)
    return found and found["username"]


@pytest.mark.parametrize(
    ("repository", "registry"),
    [
        ("a", "docker.io"),
        ("team/a", "docker.io"),
        ("r.example/a", "r.example"),
        ("localhost/a", "localhost"),
        ("r:5000/a/b", "r:5000"),
    ],
)
def test_the_registry_of_a_repository(repository, registry):
    assert registry_of(repository) == registry


# S113
def test_without_configuration_there_are_no_credentials(home):
    assert find_credentials("r.example/a", environ(home), "docker") is None
    docker_config(home, {"auths": {"other.example": auth("u", "p")}})
    assert find_credentials("r.example/a", environ(home), "docker") is None
    assert find_credentials("r.example/a", {}, "docker") is None


# S113
def test_config_json_is_used_for_its_registry(home):
    docker_config(
        home,
        {"auths": {"r.example": auth("u", "p:q"), "https://index.docker.io/v1/": auth("hub", "h")}},
    )
    found = find_credentials("r.example/team/a", environ(home), "docker")
    assert found == {"username": "u", "password": "p:q"}
    assert user_of(home, "busybox") == "hub"


# S113
def test_auth_json_is_used_too_and_its_most_specific_entry_wins(home):
    entries = {"r.example": auth("all", "p"), "r.example/team": auth("team", "p")}
    (home / "run" / "containers" / "auth.json").write_text(json.dumps({"auths": entries}))
    assert user_of(home, "r.example/team/a") == "team"
    assert user_of(home, "r.example/x/a") == "all"


# S113
def test_each_runtimes_own_file_comes_first(home):
    docker_config(home, {"auths": {"r.example": auth("docker", "p")}})
    entries = {"auths": {"r.example": auth("podman", "p")}}
    (home / "run" / "containers" / "auth.json").write_text(json.dumps(entries))
    assert user_of(home, "r.example/a", "docker") == "docker"
    assert user_of(home, "r.example/a", "podman") == "podman"


def test_an_identity_token_is_passed_on_as_one(home):
    docker_config(home, {"auths": {"r.example": {"identitytoken": "t"}}})
    assert find_credentials("r.example/a", environ(home), "docker") == {"identitytoken": "t"}


def helper(home, name, script):
    path = home / "bin" / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


# S113
def test_a_credential_helper_is_asked_for_its_registry(home):
    helper(home, "vault", 'read s; echo "{\\"Username\\":\\"$1-$s\\",\\"Secret\\":\\"x\\"}"')
    docker_config(home, {"credHelpers": {"r.example": "vault"}, "credsStore": "none"})
    assert user_of(home, "r.example/a") == "get-r.example"
    docker_config(home, {"credsStore": "vault", "auths": {"r.example": {}}})
    assert user_of(home, "r.example/a") == "get-r.example"
    assert user_of(home, "busybox") == "get-https://index.docker.io/v1/"


def test_a_helper_that_knows_nothing_is_no_error(home):
    helper(home, "vault", "echo credentials not found in native keychain; exit 1")
    docker_config(home, {"credsStore": "vault"})
    assert find_credentials("r.example/a", environ(home), "docker") is None


@pytest.mark.parametrize(
    ("content", "script", "reason"),
    [
        ("{", None, "config.json"),
        ("[]", None, "no JSON object"),
        ({"auths": {"r.example": {"auth": "%%"}}}, None, "not base64"),
        ({"auths": {"r.example": {"auth": "dXNlcg=="}}}, None, "not user:password"),
        ({"credsStore": "missing"}, None, "cannot be run"),
        ({"credsStore": "../evil"}, None, "no program name"),
        ({"credsStore": "vault"}, "echo sEcReT; exit 3", "exit code 3"),
        ({"credsStore": "vault"}, "echo sEcReT", "answered no credentials"),
    ],
)
def test_broken_credentials_are_named_and_not_shown(home, content, script, reason):
    if script:
        helper(home, "vault", script)
    docker_config(home, content)
    with pytest.raises(BadCredentials, match=reason) as caught:
        find_credentials("r.example/a", environ(home), "docker")
    assert "sEcReT" not in str(caught.value)
