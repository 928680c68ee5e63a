"""Pulls with right, wrong and no credentials, from a registry beside the engine."""

import base64
import json
import subprocess
import sys

import pytest

from tests.support import tiny_registry
from tests.support.backend_world import EventKind, World
from tests.support.container_engine import REGISTRY_PORT
from tests.support.waiting import until

pytestmark = pytest.mark.engine
IMAGE = f"127.0.0.1:{REGISTRY_PORT}/team/img:1"


@pytest.fixture
def registry(engine):
    process = subprocess.Popen(
        [
            *engine.nft[:-1],
            sys.executable,
            tiny_registry.__file__,
            str(REGISTRY_PORT),
            "bob",
            "right",
        ],
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"ready\n"
    yield
    process.kill()
    process.wait(5)
    process.stdout.close()


def failure(engine, tmp_path, monkeypatch, password, **job):
    """How a pull with ``password`` (None: without credentials) of the worker's own fails."""
    (tmp_path / ".docker").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    if password is not None:
        auth = base64.b64encode(f"bob:{password}".encode()).decode()
        content = {"auths": {f"127.0.0.1:{REGISTRY_PORT}": {"auth": auth}}}
        (tmp_path / ".docker" / "config.json").write_text(json.dumps(content))
    world = World(engine, tmp_path)
    until(lambda: world.backend.health() == "")
    agent = world.launch(image=IMAGE, policy="IfNotPresent", **job)
    detail = world.wait_for(agent, EventKind.FAILED)
    world.backend.close()
    return detail


# S113
@pytest.mark.parametrize("password", ["wrong-pass", None])
def test_wrong_or_no_credentials_fail_with_the_registrys_name(
    engine, registry, tmp_path, monkeypatch, password
):
    detail = failure(engine, tmp_path, monkeypatch, password)
    assert f"(registry 127.0.0.1:{REGISTRY_PORT})" in detail
    assert "wrong-pass" not in detail


# S113
def test_configured_credentials_reach_their_registry(engine, registry, tmp_path, monkeypatch):
    detail = failure(engine, tmp_path, monkeypatch, "right")
    assert "manifest" in detail.lower()
    assert "(registry" not in detail


# S113
def test_a_jobs_own_login_goes_before_the_workers(engine, registry, tmp_path, monkeypatch):
    login = {"username": "bob", "password": "right"}
    detail = failure(engine, tmp_path, monkeypatch, "wrong-pass", registry_auth=login)
    assert "manifest" in detail.lower()
    assert "(registry" not in detail
