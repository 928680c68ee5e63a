"""Packages of this commit, a repository with them, and machines that install from it."""

import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import booted

ROOT = Path(__file__).parents[2]


#: Building, booting and installing take a minute on an idle machine, and several on a busy one.
_TEST_S = 600


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(_TEST_S))


@pytest.fixture(scope="session")
def revision():
    """The commit under test, whatever is committed while the tests run."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True)
    return done.stdout.decode().strip()


@pytest.fixture(scope="session")
def packages(revision):
    """``build/deb`` with both packages of the commit."""
    subprocess.run(["packaging/build-deb", revision], cwd=ROOT, check=True, timeout=300)
    return ROOT / "build/deb"


@pytest.fixture(scope="session")
def repository(packages, tmp_path_factory):
    """A signed apt repository with them."""
    directory = tmp_path_factory.mktemp("apt")
    subprocess.run(["packaging/apt-repo", directory], cwd=ROOT, check=True, timeout=60)
    return directory


@pytest.fixture(scope="session")
def trees():
    booted.prepare()


@contextmanager
def _blank(repository):
    with booted.Machine("kici") as machine:
        shutil.copytree(repository, machine.root / "opt/apt")
        machine.put(
            "/etc/apt/sources.list.d/kici.sources",
            "Types: deb\nURIs: file:///opt/apt\nSuites: stable\nComponents: main\n"
            "Signed-By: /opt/apt/kici-archive-keyring.pgp\n",
        )
        for default in ("sources.list", "sources.list.d/debian.sources"):
            (machine.root / "etc/apt" / default).unlink(missing_ok=True)
        yield machine


def _install(machine):
    machine.run("apt-get update -qq; apt-get install -y -qq kici-worker kici-coordinator", 120)


def _join(machine):
    machine.run("systemctl start kici-coordinator")
    token = machine.wait_for(
        "kici-admin peer create-token --role worker --json | jq -er .token"
        " || kici-admin peer create-token --role worker | grep -o 'kici_join_v1[^ ]*'"
    ).splitlines()[-1]
    machine.put("/etc/kici/join-token", token + "\n", 0o600)
    machine.run(
        "printf 'KICI_CLUSTER_COORDINATOR_URL=ws://127.0.0.1:4000/ws/peer\\nKICI_PORT=4001\\n"
        "KICI_CLUSTER_INSTANCE_ID=pi\\n' >> /etc/kici/worker.env"
    )
    machine.put("/etc/kici/scalers.yaml", SCALERS)
    machine.run(
        "install -D -t /etc/systemd/system/kici-worker.service.d"
        " /usr/share/doc/kici-worker/examples/host-agents.conf; systemctl daemon-reload;"
        "systemctl start kici-worker"
    )
    _wait_connected(machine)


def _wait_connected(machine):
    machine.wait_for(
        "curl -fs http://127.0.0.1:4001/status | jq -e '.coordinatorConnection == \"connected\"'"
    )


@pytest.fixture
def blank(trees, repository):
    """A machine without us, to which only our repository has been added."""
    with _blank(repository) as machine:
        yield machine


@pytest.fixture
def machine(blank):
    """A machine with both packages installed, nothing configured."""
    _install(blank)
    return blank


@pytest.fixture
def joined(machine):
    """Coordinator and worker of one machine; host agents with two slots."""
    _join(machine)
    return machine


@pytest.fixture(scope="module")
def _shared(trees, repository):
    with _blank(repository) as machine:
        _install(machine)
        _join(machine)
        yield machine


@pytest.fixture
def running(_shared):
    """As ``joined``, of one machine for all tests of a file: each finds the worker as packaged,
    connected and idle. (Booting and installing is most of the time of such a test.)"""
    _shared.run(
        "rm -f /etc/systemd/system/kici-worker.service.d/test.conf; systemctl daemon-reload;"
        "systemctl reset-failed kici-worker; systemctl start kici-coordinator kici-worker"
    )
    _wait_connected(_shared)
    return _shared


SCALERS = """\
version: 1
scalers:
  - name: host
    type: bare-metal
    maxAgents: 2
    labelSets:
      - labels: [self-hosted, linux, runtime:native]
        binaryPath: /usr/bin/kici-agent
"""
