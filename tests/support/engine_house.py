"""A whole house whose agents are containers of a real engine.

Runs inside the engine's network namespace (tests/engine/conftest.py), so that the bridge's
gateway is one of the worker's own addresses, as it is on a user's machine.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import requests

from tests.support.container_engine import IMAGE, VOLUMES, TestEngine
from tests.support.house import ROOT, SCRIPTS, House
from tests.support.waiting import wait_for

#: Of the network that agents get (scaler spec 3.2).
GATEWAY = "172.30.0.1"
#: What our agent is made of where it is no part of /usr.
PARTS = sorted({sys.prefix, sys.base_prefix, str(ROOT)} - {"/usr"})
#: The image runs ``$CODE``: become the agent.
AGENT = f"import os; os.execv('{SCRIPTS}/kici-agent', ['kici-agent'])"
#: On a loaded machine; nothing that comes is waited for so long elsewhere.
WAIT_S = 90.0


class EngineHouse(House):
    """Owns: coordinator and worker. ``extra`` are label sets beside the usual one: each
    changes it, and is asked for by its label.

    A job's step finds what ``flag`` raises in ``/flags``.
    """

    def __init__(
        self,
        root: Path,
        engine: TestEngine,
        *,
        slots: int = 2,
        name: str = "worker-1",
        extra: dict[str, dict[str, Any]] | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.engine = engine
        self.name = name
        self.extra = extra or {}
        self.flags = root / "flags"
        self.flags.mkdir()
        own = {"KICI_HOST": "0.0.0.0", "KICI_CLUSTER_INSTANCE_ID": name}
        super().__init__(root, slots=slots, env=own | (env or {}))

    def write_scalers(self, text: str | None = None) -> None:
        """JSON is YAML."""
        usual = self._label_set(["linux", "test", "runtime:native"])
        others = [
            self._label_set([name, "runtime:native"], **more) for name, more in self.extra.items()
        ]
        scaler = {
            "name": "boxes",
            "type": "container",
            "maxAgents": self.slots,
            "socketPath": str(self.engine.socket),
            "orchestratorUrl": f"ws://{GATEWAY}:{self.port}/ws",
            "labelSets": [usual, *others],
        }
        super().write_scalers(text or json.dumps({"version": 1, "scalers": [scaler]}))

    def _label_set(self, labels: list[str], code: str = AGENT, **more: Any) -> dict[str, Any]:
        parts = (f"{part}:{part}:ro" for part in PARTS)
        return {
            "labels": labels,
            "image": IMAGE,
            "imagePullPolicy": "Never",
            "volumes": [*VOLUMES, *parts, f"{self.flags}:/flags:ro"],
            "env": {"CODE": code, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        } | more

    def flag(self, name: str) -> None:
        (self.flags / name).touch()

    def wait_step(self, flag: str) -> str:
        """A step that says ``waiting`` and ends when the flag is raised."""
        return f"echo waiting; until [ -e /flags/{flag} ]; do sleep 0.2; done; echo {flag}"

    def submit_to(self, label: str, *steps: str) -> str:
        return self.submit(label, *steps, **{"runs-on": [label]})

    def ended(self, job_id: str) -> dict[str, Any]:
        return self.wait_end(job_id, WAIT_S)

    # --- the engine ---------------------------------------------------------------------

    @contextlib.contextmanager
    def client(self) -> Iterator[docker.APIClient]:
        made = docker.APIClient(base_url=self.engine.url, version="auto", timeout=60)
        with contextlib.closing(made):
            yield made

    def containers(self) -> list[dict[str, Any]]:
        """All of this worker's, whatever their state."""
        with self.client() as client:
            return client.containers(all=True, filters={"label": [f"kici.worker={self.name}"]})

    def container_of(self, job_id: str) -> str:
        """The id of the running container that a job's agent is in."""

        def look() -> str | None:
            running = [one for one in self.containers() if one["State"] == "running"]
            bound = [one for one in running if one["Labels"].get("kici-bound-job-id") == job_id]
            return bound[0]["Id"] if bound else None

        return wait_for(look, f"a container of {job_id} runs", WAIT_S)

    def wait_clean(self) -> None:
        """Neither container nor process is left."""
        wait_for(lambda: not self.containers(), f"no container of {self.name}", WAIT_S)
        wait_for(lambda: not self.agents(), f"no agent of {self.name}", 10)

    def agents(self) -> list[int]:
        """Pids in containers that this house's worker started, as the host sees them."""
        shown = subprocess.run(["ps", "axeww", "-o", "pid=,args="], capture_output=True, text=True)
        mark = f"KICI_ORCHESTRATOR_URL=ws://{GATEWAY}:{self.port}/ws"
        return [int(row.split()[0]) for row in shown.stdout.splitlines() if mark in row]

    def kill_agents(self) -> None:
        """At the end of a test, also of one that failed: the engine is empty again."""
        trouble = (requests.RequestException, docker.errors.DockerException, OSError)
        with contextlib.suppress(*trouble), self.client() as client:
            for one in self.containers():
                client.remove_container(one["Id"], force=True)


@contextlib.contextmanager
def engine_house(root: Path, engine: TestEngine, **more: Any) -> Iterator[EngineHouse]:
    """A started house with container agents; a test that ends well leaves an empty engine."""
    built = EngineHouse(root, engine, **more)
    try:
        yield built.start()
        built.wait_clean()
    finally:
        built.close()
