"""The worker under test: ``kici-worker run`` as its users start it, in a directory of its own."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench import processes
from bench.agent_end import Agent
from bench.coordinator_end import TOKEN, Coordinator
from bench.sockets import Loop

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = Path(sys.executable).parent
STOP_S = 20.0
#: ``scalers.yaml`` of a worker on the given port.
Scalers = Callable[[int], str]


class WorkerProcess:
    """Owns: the process and its directory. ``started_at`` is just before the exec."""

    def __init__(
        self,
        coordinator_port: int,
        env: Mapping[str, str] = {},
        *,
        scalers: Scalers | None = None,
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="kici-bench-"))
        self.port = _free_port()
        (self.directory / "scalers.yaml").write_text(
            scalers(self.port) if scalers else "version: 1\nscalers: []\n"
        )
        base = {k: v for k, v in os.environ.items() if not k.startswith(("KICI_", "NOTIFY"))}
        # As installed: our modules are compiled once, not at each start.
        base.pop("PYTHONDONTWRITEBYTECODE", None)
        data = self.directory / "data"
        own = {
            "PYTHONPATH": str(ROOT),
            "PATH": f"{SCRIPTS}:{base.get('PATH', '')}",
            "HOME": str(self.directory),
            "KICI_CLUSTER_COORDINATOR_URL": f"ws://127.0.0.1:{coordinator_port}/ws/peer",
            "KICI_CLUSTER_INSTANCE_ID": "bench-worker",
            "KICI_CLUSTER_JOIN_TOKEN": TOKEN,
            "KICI_CLUSTER_CREDENTIAL_FILE": str(data / "peer-credential"),
            "KICI_DATA_DIR": str(data),
            "KICI_HOST": "127.0.0.1",
            "KICI_PORT": str(self.port),
            "KICI_AGENT_AUTH": "none",
            "KICI_QUEUE_LIMIT": "100000",
            "KICI_SCALER_CONFIG_PATH": str(self.directory / "scalers.yaml"),
        }
        self.log = self.directory / "worker.log"
        command = [str(SCRIPTS / "kici-worker"), "run"]
        # Into a pipe-like sink: a log file would count as bytes written.
        with open(os.devnull, "wb") as sink:
            self.started_at = time.perf_counter()
            self._process = subprocess.Popen(
                command, env=base | own | dict(env), stdout=sink, stderr=sink
            )

    @property
    def pids(self) -> list[int]:
        """Supervisor, then its children."""
        return processes.children(self._process.pid)

    def pid_of(self, name: str) -> int:
        return next(pid for pid in self.pids if processes.title(pid) == name)

    def health(self) -> int:
        return self.get("/health")

    def get(self, path: str) -> int:
        """The status; 0 while nothing answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as got:
                got.read()
                return got.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def running(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        for _ in range(3):
            if self.running():
                self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


class Rig:
    """A coordinator, a worker and agents, driven by one loop."""

    def __init__(self, env: Mapping[str, str] = {}, *, scalers: Scalers | None = None) -> None:
        self.loop = Loop()
        self.coordinator = Coordinator(self.loop)
        self.worker = WorkerProcess(self.coordinator.port, env, scalers=scalers)
        self.agents: list[Agent] = []

    def add_agents(self, count: int, *, slots: int = 1) -> list[Agent]:
        """``count`` registered agents more."""
        first = len(self.agents)
        made = [
            Agent(self.loop, self.worker.port, f"agent-{first + n}", slots=slots)
            for n in range(count)
        ]
        self.agents += made
        self.loop.run(lambda: all(agent.registered for agent in made), "agents register")
        return made

    def close(self) -> None:
        for agent in self.agents:
            agent.end.close()
        self.loop.close()
        self.worker.close()


@contextmanager
def rig(env: Mapping[str, str] = {}, *, scalers: Scalers | None = None) -> Iterator[Rig]:
    """A joined worker that leaves nothing behind."""
    made = Rig(env, scalers=scalers)
    try:
        made.loop.run(lambda: made.worker.health() or not made.worker.running(), "health answers")
        made.coordinator.wait_joined()
        yield made
    finally:
        with contextlib.suppress(OSError):
            made.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def scalers_of_host(*, slots: int, warm: int = 0) -> Scalers:
    """``scalers.yaml`` with our own agent as processes of this machine, by port."""
    pool = f"    warmPool: {{enabled: true, size: {warm}}}\n" if warm else ""

    def text(port: int) -> str:
        return f"""version: 1
scalers:
  - name: host
    type: bare-metal
    maxAgents: {slots}
    orchestratorUrl: ws://127.0.0.1:{port}/ws
{pool}    labelSets:
      - labels: [linux, bench, "runtime:native"]
        binaryPath: {SCRIPTS / "kici-agent"}
"""

    return text
