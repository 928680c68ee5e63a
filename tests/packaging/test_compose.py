"""The compose example against the one of the seed."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from kici.config.enrich import Host
from kici.config.scalers import read_scalers
from tests.support import booted

COMPOSE = Path(__file__).parents[2] / "packaging/compose"


def _service(file, name):
    class Loader(yaml.SafeLoader):
        """Compose's ``!reset`` takes a value of the file below away."""

    Loader.add_constructor("!reset", lambda loader, node: None)
    return yaml.load((COMPOSE / file).read_text(), Loader)["services"][name]  # noqa: S506


# W148
def test_the_worker_has_the_variables_volumes_and_ports_of_the_seed():
    worker = _service("compose.yaml", "worker")
    assert worker["image"] == "kici-orchestrator:latest"
    token = "${WORKER_JOIN_TOKEN:-}"  # noqa: S105
    assert worker["environment"] == {
        "KICI_CLUSTER_ROLE": "worker",
        "KICI_CLUSTER_COORDINATOR_URL": "ws://coordinator:4000/ws/peer",
        "KICI_CLUSTER_JOIN_TOKEN": token,
        "KICI_CLUSTER_INSTANCE_ID": "worker-1",
        "KICI_SCALER_CONFIG_PATH": "/config/scalers.yaml",
    }
    assert worker["ports"] == ["4001:4000"]
    assert "./scalers.yaml:/config/scalers.yaml:ro" in worker["volumes"]
    assert any(v.endswith(":/run/podman/podman.sock:rw") for v in worker["volumes"])
    assert "worker-state:/var/lib/kici-worker" in worker["volumes"]


def test_the_original_coordinator_takes_the_place_of_ours_by_one_more_file():
    ours = _service("compose.yaml", "coordinator")
    original = _service("compose.original.yaml", "coordinator")
    assert ours["ports"] == ["4000:4000"]
    assert original["build"] is None
    assert original["environment"]["KICI_CLUSTER_ADDRESS"] == "ws://coordinator:4000"


def test_the_scaler_file_of_the_example_is_valid():
    _, problems = read_scalers(str(COMPOSE / "scalers.yaml"), None, Host("linux", "x64"))
    assert problems == ()


@pytest.fixture
def debian_with_compose(trees, tmp_path):
    """A root directory with Debian's docker-compose; nothing is booted."""
    tool = [booted.TOOL, "layer", "trixie", "compose", "docker-compose"]
    subprocess.run(tool, check=True, timeout=600, stdout=subprocess.DEVNULL)
    root = tmp_path / "root"
    root.mkdir()
    base = booted.TREES / "trixie"
    options = f"ro,lowerdir={base}+compose:{base}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, root], check=True)
    subprocess.run(["mount", "--bind", COMPOSE, root / "mnt"], check=True)
    yield root
    subprocess.run(["umount", root / "mnt", root], check=True)


# W148
@pytest.mark.systemd
@pytest.mark.debian
@pytest.mark.root
@pytest.mark.parametrize("files", [["compose.yaml"], ["compose.yaml", "compose.original.yaml"]])
def test_compose_itself_takes_the_files(debian_with_compose, files):
    names = ("KICI_COORDINATOR_IMAGE", "KICI_DATABASE_URL", "API_KEY", "SECRET_KEY")
    given = [f"{name}=x" for name in names]
    words = [word for file in files for word in ("-f", f"/mnt/{file}")]
    done = subprocess.run(
        ["chroot", debian_with_compose, "env", "-i", "PATH=/usr/bin:/bin", *given,
         "docker-compose", *words, "config", "--format", "json"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    coordinator = json.loads(done.stdout)["services"]["coordinator"]
    assert coordinator["image"] == ("x" if len(files) == 2 else "kici-orchestrator:latest")
    assert bool(coordinator.get("build")) is (len(files) == 1)
