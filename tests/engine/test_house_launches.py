"""Agents that cannot come: each job ends, and the coordinator is told why."""

import base64
import contextlib
import json
import subprocess
import sys

import pytest

from tests.support import tiny_registry
from tests.support.backend_world import SLEEPER
from tests.support.container_engine import REGISTRY_PORT
from tests.support.engine_house import EngineHouse

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
IN_NAMESPACE = True
#: No agent of this house ever registers: nothing is cut off by a short limit.
_HASTY = {"KICI_SCALER_SPAWN_TIMEOUT_MS": "4000"}
_PASSWORD = "not-the-right-one"
_DOOMED = {
    "nowhere": {"image": "kici-nowhere:1"},
    "mute": {"code": SLEEPER},
    "locked": {
        "image": f"127.0.0.1:{REGISTRY_PORT}/team/img:1",
        "imagePullPolicy": "IfNotPresent",
    },
}


@contextlib.contextmanager
def registry():
    process = subprocess.Popen(
        [sys.executable, tiny_registry.__file__, str(REGISTRY_PORT), "bob", "right"],
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.kill()
        process.wait(5)
        process.stdout.close()


@pytest.fixture(scope="module")
def doomed(engine, tmp_path_factory):
    """A house, and one job a label set: their failures take their time together."""
    built = EngineHouse(
        tmp_path_factory.mktemp("doomed"), engine, slots=6, extra=_DOOMED, env=_HASTY
    )
    auth = base64.b64encode(f"bob:{_PASSWORD}".encode()).decode()
    directory = built.root / "home" / ".docker"
    directory.mkdir()
    content = {"auths": {f"127.0.0.1:{REGISTRY_PORT}": {"auth": auth}}}
    (directory / "config.json").write_text(json.dumps(content))
    with registry():
        try:
            built.start()
            yield built, {label: built.submit_to(label, "true") for label in _DOOMED}
            built.wait_clean()
        finally:
            built.close()


def failure(doomed, label):
    house, jobs = doomed
    row = house.ended(jobs[label])
    assert row["state"] == "failed"
    return row["reason"]


# S105 S107
def test_a_missing_image_fails_the_job_with_its_name(doomed):
    assert "kici-nowhere" in failure(doomed, "nowhere")


# S70 S93
def test_a_container_that_never_registers_fails_the_job(doomed):
    assert "did not register in time" in failure(doomed, "mute")


# S113
def test_a_wrong_registry_password_fails_the_job_with_the_registrys_name(doomed):
    reason = failure(doomed, "locked")
    assert f"(registry 127.0.0.1:{REGISTRY_PORT})" in reason
    house, _jobs = doomed
    for log in ("worker.log", "coordinator.log"):
        assert _PASSWORD not in (house.root / log).read_text()
