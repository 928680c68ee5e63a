"""The image of the compose example, built and run in a real Docker from our own packages."""

import os
import shutil
import subprocess
import tempfile

import pytest

from tests.support import booted
from tests.support.waiting import wait_for

TOOL = booted.TOOL.with_name("container-engine")
COMPOSE = booted.TOOL.parents[3] / "packaging/compose"
IMAGE, BASE = "kici-orchestrator:latest", "kici-test-base:latest"
ASK = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())"
#: Of the tree that stands for debian:trixie-slim: what an image does not need.
_LEFT_OUT = ("proc/*", "sys/*", "usr/share/doc", "usr/lib/python3/dist-packages/ansible*",
             "var/cache/*", "var/lib/apt/lists/*", "etc/apt/sources.list*")  # fmt: skip
pytestmark = [
    pytest.mark.engine,
    pytest.mark.systemd,
    pytest.mark.debian,
    pytest.mark.root,
    pytest.mark.slow,
]


class Docker:
    def __init__(self, directory):
        self._environment = {**os.environ, "DOCKER_HOST": f"unix://{directory}/engine.sock"}

    def __call__(self, *words, **more):
        done = subprocess.run(
            ["docker", *words], env=self._environment, capture_output=True, text=True,
            timeout=300, **more,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()


@pytest.fixture
def docker():
    # Not below tmp_path: containerd's socket has a longest path of 108 bytes.
    directory = tempfile.mkdtemp(prefix="kimg", dir="/tmp")
    try:
        subprocess.run([TOOL, "start", "docker", directory], check=True, timeout=60)
        yield Docker(directory)
    finally:
        if os.path.exists(f"{directory}/engine.pid"):
            subprocess.run([TOOL, "stop", directory], check=True, timeout=60)
        shutil.rmtree(directory)


@pytest.fixture
def image(docker, packages, trees, tmp_path):
    """Built offline: the base has all dependencies already, no registry is asked."""
    root = tmp_path / "root"
    root.mkdir()
    base = booted.TREES / "trixie"
    lower = f"lowerdir={base}+{booted.LAYER}:{base}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", f"ro,{lower}", root], check=True)
    try:
        left_out = [f"--exclude=./{path}" for path in _LEFT_OUT]
        with subprocess.Popen(["tar", "-C", root, *left_out, "-cf", "-", "."],
                              stdout=subprocess.PIPE) as tar:  # fmt: skip
            docker("import", "-", BASE, stdin=tar.stdout)
    finally:
        subprocess.run(["umount", root], check=True)
    context = tmp_path / "context"
    (context / "build/deb").mkdir(parents=True)
    for deb in packages.glob("*.deb"):
        shutil.copy(deb, context / "build/deb")
    shutil.copytree(COMPOSE, context / "packaging/compose")
    docker("build", "--build-arg", f"BASE={BASE}", "--network", "none", "-t", IMAGE,
           "-f", str(context / "packaging/compose/Containerfile"), str(context))  # fmt: skip
    return IMAGE


# W148
def test_one_image_serves_both_roles_and_the_worker_joins(docker, image):
    docker("network", "create", "kicinet")
    docker("run", "-d", "--name", "coordinator", "--network", "kicinet", image)

    def token():
        admin = ("kici-admin", "peer", "create-token", "--role", "worker", "--json")
        try:
            return docker("exec", "coordinator", *admin).partition('"token"')[2].split('"')[1]
        except (AssertionError, IndexError):
            return None

    worker = {
        "KICI_CLUSTER_ROLE": "worker",
        "KICI_CLUSTER_COORDINATOR_URL": "ws://coordinator:4000/ws/peer",
        "KICI_CLUSTER_JOIN_TOKEN": wait_for(token, "a join token"),
        "KICI_CLUSTER_INSTANCE_ID": "worker-1",
    }
    settings = [word for item in worker.items() for word in ("-e", "=".join(item))]
    docker("run", "-d", "--name", "worker", "--network", "kicinet", *settings, image)

    def status():
        try:
            return docker("exec", "worker", "python3", "-c", ASK, "http://127.0.0.1:4000/status")
        except AssertionError:
            return ""

    wait_for(lambda: '"coordinatorConnection":"connected"' in status(), "joined", 40)
    docker("stop", "-t", "40", "worker")
    assert docker("inspect", "-f", "{{.State.ExitCode}}", "worker") == "0"
    docker("rm", "-f", "worker", "coordinator")
    docker("network", "rm", "kicinet")
