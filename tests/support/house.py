"""A whole house on loopback: embedded coordinator, worker, host agents, all real processes.

Used by the process and end-to-end tests, the benches and the chaos suite. Everything lives in
one directory and dies with ``close()``; each wait polls a condition against a deadline.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(sys.executable).parent
#: A process may take so long to answer on a machine that others keep busy.
START_S = 60.0


def http(
    method: str, url: str, body: Any = None, token: str | None = None, timeout_s: float = 10
) -> tuple[int, Any]:
    """Status and decoded body (JSON where it is JSON)."""
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            status, text = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            status, text = error.code, error.read().decode()
    except OSError:
        return 0, None
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text


def alive(pid: int) -> bool:
    """True while ``pid`` exists and is no zombie."""
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(shown.stdout.strip()) and not shown.stdout.startswith("Z")


class Process:
    """One command with its own log file. Owns: the process until ``kill`` or ``stop``."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        self.log = log
        base = {k: v for k, v in os.environ.items() if not k.startswith("KICI_")}
        base |= {"PYTHONPATH": str(ROOT), "PATH": f"{SCRIPTS}:{base.get('PATH', '')}"}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, env=base | env, stdout=output, stderr=output, stdin=subprocess.DEVNULL
            )
        self.pid = self._process.pid

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        return self._process.wait(timeout_s)

    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Negative: the signal that ended it; None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        if self.running():
            self._process.kill()
        self._process.wait(10)

    def lines(self) -> list[dict[str, Any]]:
        """The JSON log lines so far."""
        out = []
        for line in self.log.read_text(errors="replace").splitlines():
            try:
                out.append(json.loads(line))
            except ValueError:
                out.append({"message": line})
        return out


class House:
    """Coordinator, worker and a directory. ``slots`` host agents at once."""

    def __init__(self, root: Path, *, slots: int = 2, env: dict[str, str] | None = None) -> None:
        self.root = root
        self.port = free_port()
        self.coordinator_port = free_port()
        #: Where the worker dials: a proxy of a test may stand between.
        self.link_port = self.coordinator_port
        self.extra_env = env or {}
        self.coordinator_level = "debug"
        self.http_timeout_s = 10.0
        self.slots = slots
        self.coordinator: Process | None = None
        self.worker: Process | None = None
        for name in ("coordinator", "data", "runtime", "home"):
            (root / name).mkdir(exist_ok=True)
        self.scalers = root / "scalers.yaml"
        self.write_scalers()

    # --- set-up ---------------------------------------------------------------------

    def write_scalers(self, text: str | None = None) -> None:
        self.scalers.write_text(
            text
            or f"""version: 1
scalers:
  - name: host
    type: bare-metal
    maxAgents: {self.slots}
    orchestratorUrl: ws://127.0.0.1:{self.port}/ws
    labelSets:
      - labels: [linux, test, "runtime:native"]
        binaryPath: {SCRIPTS / "kici-agent"}
"""
        )

    def start_coordinator(self) -> None:
        self.coordinator = Process(
            [
                *(str(SCRIPTS / "kici-coordinator"), "run", "--host", "127.0.0.1"),
                *("--data-dir", str(self.root / "coordinator")),
                *("--port", str(self.coordinator_port)),
            ],
            {"HOME": str(self.root / "home"), "KICI_LOG_LEVEL": self.coordinator_level},
            self.root / "coordinator.log",
        )
        wait_for(lambda: self.api("GET", "/health")[0] == 200, "coordinator answers", START_S)

    def join_token(self) -> str:
        made = self.command("kici-admin", "peer", "create-token", "--role", "worker", "--json")
        return json.loads(made.stdout)["token"]

    def worker_env(self, token: str | None = None) -> dict[str, str]:
        env = {
            "HOME": str(self.root / "home"),
            "KICI_CLUSTER_ROLE": "worker",
            "KICI_CLUSTER_COORDINATOR_URL": f"ws://127.0.0.1:{self.link_port}/ws/peer",
            "KICI_CLUSTER_INSTANCE_ID": "worker-1",
            "KICI_SCALER_CONFIG_PATH": str(self.scalers),
            "KICI_PORT": str(self.port),
            "KICI_HOST": "127.0.0.1",
            "KICI_DATA_DIR": str(self.root / "data"),
            "KICI_RUNTIME_DIR": str(self.root / "runtime"),
            "KICI_CLUSTER_CREDENTIAL_FILE": str(self.root / "data/peer-credential"),
            "KICI_LOG_LEVEL": "debug",
        }
        if token:
            env["KICI_CLUSTER_JOIN_TOKEN"] = token
        return env | self.extra_env

    def start_worker(self, token: str | None = None, *, connected: bool = True) -> None:
        self.worker = Process(
            [str(SCRIPTS / "kici-worker"), "run"],
            self.worker_env(token),
            self.root / "worker.log",
        )
        wait_for(lambda: self._answers(), "worker answers", START_S)
        if connected:
            wait_for(
                lambda: self.status().get("coordinatorConnection") == "connected",
                "worker connected",
            )
            wait_for(lambda: self.pool_ready(), "pool has told its scalers")

    def _answers(self) -> bool:
        assert self.worker is not None
        assert self.worker.running(), f"the worker ended: {self.worker.lines()[-1:]}"
        return self.web("GET", "/health")[0] == 200

    def start(self) -> "House":
        self.start_coordinator()
        self.start_worker(self.join_token())
        return self

    def close(self) -> None:
        if self.worker and self.worker.running():
            for _ in range(3):
                self.worker.signal(signal.SIGTERM)
            try:
                self.worker.wait(15)
            except subprocess.TimeoutExpired:
                self.worker.kill()
        if self.coordinator and self.coordinator.running():
            self.coordinator.signal(signal.SIGTERM)
            try:
                self.coordinator.wait(10)
            except subprocess.TimeoutExpired:
                self.coordinator.kill()
        self.kill_agents()

    # --- looking ----------------------------------------------------------------------

    def api(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        token_file = self.root / "coordinator/admin-token"
        token = token_file.read_text().strip() if token_file.exists() else None
        url = f"http://127.0.0.1:{self.coordinator_port}{path}"
        return http(method, url, body, token, self.http_timeout_s)

    def web(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        url = f"http://127.0.0.1:{self.port}{path}"
        return http(method, url, body, timeout_s=self.http_timeout_s)

    def status(self) -> dict[str, Any]:
        status, body = self.web("GET", "/status")
        return body if status == 200 else {}

    def pool_ready(self) -> bool:
        return any(s.get("healthy") for s in self.status().get("scalers", ()))

    def child(self, name: str) -> int:
        """Pid of the worker's child ``name``."""
        rows = {row["name"]: row for row in self.status().get("processes", ())}
        return rows.get(name, {}).get("pid") or 0

    def worker_pids(self) -> list[int]:
        """The supervisor and its children, the supervisor first; from the kernel."""
        if self.worker is None or not self.worker.running():
            return []
        shown = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.worker.pid)], capture_output=True, text=True
        )
        return [self.worker.pid, *(int(pid) for pid in shown.stdout.split())]

    def kill_worker(self) -> None:
        """SIGKILL the supervisor and its children, as a power cut would."""
        for pid in self.worker_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self.worker is not None
        self.worker.wait(10)

    def kill_child(self, name: str) -> None:
        """SIGKILL one child; returns when its successor is known."""
        before = wait_for(lambda: self.child(name), f"{name} has a pid")
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: self.child(name) not in (0, before), f"{name} back", 5)

    def agents(self) -> list[int]:
        """Pids of host agents that this house's worker started; not of their children, which
        have their environment for a moment."""
        words = ["ps", "axeww", "-o", "pid=,ppid=,args="]
        shown = subprocess.run(words, capture_output=True, text=True).stdout
        mark = f"KICI_ORCHESTRATOR_URL=ws://127.0.0.1:{self.port}/ws"
        rows = [row.split(None, 2) for row in shown.splitlines() if mark in row]
        parents = {int(pid): int(ppid) for pid, ppid, _args in rows}
        return [pid for pid, ppid in parents.items() if ppid not in parents]

    def kill_agents(self) -> None:
        for pid in self.agents():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    # --- jobs -------------------------------------------------------------------------

    def submit(self, name: str, *steps: str | dict[str, Any], **more: Any) -> str:
        """Submit a native job with these shell steps; its id."""
        rows = [s if isinstance(s, dict) else {"run": s} for s in steps]
        document = {"name": name, "runs-on": ["linux", "test"], "steps": rows} | more
        status, body = self.api("POST", "/api/v1/jobs", document)
        assert status in (200, 201, 202), body
        return body["jobId"]

    def job(self, job_id: str) -> dict[str, Any]:
        return self.api("GET", f"/api/v1/jobs/{job_id}")[1] or {}

    def wait_state(self, job_id: str, *states: str, timeout_s: float = 40.0) -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            row = self.job(job_id)
            return row if row.get("state") in states else None

        return wait_for(reached, f"job {job_id} in {states}, is {self.job(job_id)}", timeout_s)

    def wait_end(self, job_id: str, timeout_s: float = 40.0) -> dict[str, Any]:
        return self.wait_state(
            job_id, "success", "failed", "cancelled", "timed_out_stale", timeout_s=timeout_s
        )

    def log(self, job_id: str, step: int | None = None) -> list[str]:
        """Log lines in order of arrival; of one step when given."""
        lines: list[str] = []
        after = 0
        while True:
            _status, body = self.api("GET", f"/api/v1/jobs/{job_id}/log?after={after}")
            if not body or not body["chunks"]:
                return lines
            after = body["next"]
            for chunk in body["chunks"]:
                if step is None or chunk["step"] == step:
                    lines.extend(line["text"] for line in chunk["lines"])

    def wait_log(self, job_id: str, text: str, timeout_s: float = 20.0) -> None:
        wait_for(
            lambda: any(text in line for line in self.log(job_id)),
            f"{text!r} in the log of {job_id}",
            timeout_s,
        )

    def terminals(self, job_id: str) -> list[str]:
        """Different ends of the job that the worker reported to the coordinator, ever."""
        assert self.coordinator is not None
        told = [row for row in self.coordinator.lines() if row.get("message") == "Terminal report"]
        return list(dict.fromkeys(row["state"] for row in told if row["jobId"] == job_id))

    def command(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one of our commands against this house."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("KICI_")}
        env |= {
            "PYTHONPATH": str(ROOT),
            "KICI_URL": f"http://127.0.0.1:{self.coordinator_port}",
            "KICI_COORDINATOR_DATA_DIR": str(self.root / "coordinator"),
        }
        done = subprocess.run(
            [str(SCRIPTS / words[0]), *words[1:]],
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done


@contextmanager
def house(root: Path, **more: Any) -> Iterator[House]:
    """A started house that leaves nothing behind."""
    built = House(root, **more)
    try:
        yield built.start()
    finally:
        built.close()
