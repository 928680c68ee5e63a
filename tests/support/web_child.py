"""A real web process with the test at the other end of its three links."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from kici.config.model import Config, ScalerConfig, Secret, Settings
from kici.contracts.link import JobKey, Message
from kici.contracts.link.envelope import Envelope, pack, unpack
from kici.contracts.link.lifecycle import ChildReady, ChildState, DrainState, Hello, Leave
from kici.contracts.link.views import AgentSlot, JobView, PeerState, PoolCapacity, ScalerSlots
from kici.shell.link import PART_BYTES, Joiner, cut, new_boot_id, socketpair

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 15.0
COORDINATOR = "ws://127.0.0.1:1/ws/peer"

_CHILD = """
import gevent.monkey
gevent.monkey.patch_all()
import sys, msgspec
from kici.config.model import Config
from kici.shell.child import ChildBoot
from kici.web.main import run
from tests.support.web_child import read_config
links = dict(item.split("=") for item in sys.argv[3:])
boot = ChildBoot(
    name="web", config=read_config(sys.argv[1]), listen_fd=int(sys.argv[2]),
    link_fds={name: int(fd) for name, fd in links.items()},
)
sys.exit(run(boot))
"""


def read_config(text: str) -> Config:
    """The configuration as the test wrote it (secrets are the test's own)."""
    return msgspec.json.decode(text, type=Config)


def settings(data_dir: str, **changes: Any) -> Settings:
    """Settings of a worker named ``pi-7``."""
    base: dict[str, Any] = {
        "role": "worker",
        "coordinator_urls": (COORDINATOR,),
        "credential_file": f"{data_dir}/peer-credential",
        "instance_id": "pi-7",
        "data_dir": data_dir,
        "runtime_dir": data_dir,
        "host": "127.0.0.1",
    }
    return Settings(**{**base, **changes})


class Neighbour:
    """The test's end of one link, playing supervisor, peer or pool."""

    def __init__(self, name: str, end: socket.socket) -> None:
        self.name = name
        self.boot_id = new_boot_id()
        self._end = end
        self._end.settimeout(DEADLINE_S)
        self._number = 0
        self._joiner = Joiner()
        self.hello()

    def hello(self) -> None:
        self.tell(Hello(name=self.name, pid=1))

    def restart(self) -> None:
        """From now on speak as a new process."""
        self.boot_id = new_boot_id()
        self.hello()

    def tell(self, message: Message, boot_id: str | None = None) -> None:
        self._number += 1
        for part in cut(self._number, pack(self.name, boot_id or self.boot_id, message)):
            self._end.send(part)

    def hear(self, kind: type[Message]) -> tuple[Any, list[int]]:
        """The next message of ``kind`` from web, others skipped, with its descriptors."""
        fds: list[int] = []
        while True:
            part, new, _flags, _address = socket.recv_fds(self._end, PART_BYTES + 64, 1)
            if not part:
                raise AssertionError(f"web closed its link to {self.name}")
            fds.extend(new)
            whole = self._joiner.feed(part)
            if whole is None:
                continue
            envelope: Envelope = unpack(whole)
            if isinstance(envelope.body, kind):
                return envelope.body, fds

    def close(self) -> None:
        self._end.close()


class WebChild:
    """One web process on a free loopback port."""

    def __init__(self, tmp_path: Path, scalers: ScalerConfig | None = None, **changes: Any):
        self.data_dir = tmp_path
        self.settings = settings(str(tmp_path), **changes)
        self._config = Config(settings=self.settings, scalers=scalers or ScalerConfig())
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self._listener.getsockname()[1]
        ends = {name: socketpair() for name in ("supervisor", "peer", "pool")}
        self._kept = {name: theirs for name, (_ours, theirs) in ends.items()}
        self.supervisor, self.peer, self.pool = (
            Neighbour(name, ours) for name, (ours, _theirs) in ends.items()
        )
        self.process = self._start()
        self.supervisor.hear(ChildReady)
        self.supervisor.tell(DrainState(rev=1, draining=False, stopping=False, reason=""))

    def _start(self) -> subprocess.Popen[bytes]:
        fds = {name: end.fileno() for name, end in self._kept.items()}
        return subprocess.Popen(
            [
                sys.executable,
                "-c",
                _CHILD,
                msgspec.json.encode(self._config).decode(),
                str(self._listener.fileno()),
                *(f"{name}={fd}" for name, fd in fds.items()),
            ],
            pass_fds=(self._listener.fileno(), *fds.values()),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def restart(self) -> None:
        """Kill the process and start another on the same port and links."""
        self.process.kill()
        self.process.wait(DEADLINE_S)
        self.process = self._start()
        self.supervisor.hear(ChildReady)

    def leave(self) -> int:
        self.supervisor.tell(Leave(within_s=5.0))
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        for neighbour in (self.supervisor, self.peer, self.pool):
            neighbour.close()
        for end in self._kept.values():
            end.close()
        self._listener.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_S)

    # --- HTTP ------------------------------------------------------------------------

    def request(
        self, method: str, path: str, body: bytes | str | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """``(status, headers in lower case, body)``; ``_`` in a header name means ``-``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            data = answer.read()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, data
        finally:
            connection.close()

    def text(self, path: str) -> str:
        status, _headers, body = self.request("GET", path)
        assert status == 200, (status, body)
        return body.decode()

    def json(self, path: str) -> Any:
        return json.loads(self.text(path))

    def raw(self, data: bytes) -> bytes:
        """What comes back for ``data`` until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S) as sock:
            sock.sendall(data)
            chunks = []
            while chunk := sock.recv(65536):
                chunks.append(chunk)
            return b"".join(chunks)

    def eventually(self, path: str, holds: Callable[[Any], bool]) -> Any:
        """The JSON of ``path`` once ``holds`` says yes; links are asynchronous."""
        return until(lambda: self.json(path), holds)


def until(get: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    end = time.monotonic() + DEADLINE_S
    while True:
        seen = get()
        if holds(seen):
            return seen
        assert time.monotonic() < end, f"never held; last seen: {seen!r}"
        time.sleep(0.01)


# --- messages ------------------------------------------------------------------------


def peer_state(rev: int, state: str, url: str = COORDINATOR, **changes: Any) -> PeerState:
    base: dict[str, Any] = {
        "rev": rev,
        "url": url,
        "index": 0,
        "state": state,
        "since": time.time(),
        "reason": "",
        "attempt": 0,
        "next_attempt_at": None,
        "coordinator_id": "coord-1",
        "coordinator_version": "0.9.1",
        "credential_issued_at": None,
        "last_connected_at": None,
        "counters": {},
    }
    return PeerState(**{**base, **changes})


def slot(agent_id: str, active_jobs: int = 0) -> AgentSlot:
    return AgentSlot(
        agent_id=agent_id,
        labels=("linux", "arm64"),
        active_jobs=active_jobs,
        max_concurrency=1,
        platform="linux",
        arch="arm64",
        mandatory_labels=(),
        scaler_name="pi",
    )


def scaler_slots(name: str = "pi", active: int = 0, **changes: Any) -> ScalerSlots:
    base: dict[str, Any] = {
        "name": name,
        "kind": "bare-metal",
        "label_sets": (("linux", "arm64"),),
        "gates": ((),),
        "max_agents": 4,
        "active_count": active,
        "spawns_on_local_host": True,
        "healthy": True,
        "reason": "",
    }
    return ScalerSlots(**{**base, **changes})


def capacity(rev: int, *agents: AgentSlot, **changes: Any) -> PoolCapacity:
    base: dict[str, Any] = {
        "rev": rev,
        "agents": agents,
        "scalers": (scaler_slots(active=len(agents)),),
        "n_active_jobs": sum(agent.active_jobs for agent in agents),
        "n_queued_jobs": 0,
        "n_starting_jobs": 0,
        "refusing": "",
    }
    return PoolCapacity(**{**base, **changes})


def job(rev: int, job_id: str, state: str = "running", **changes: Any) -> JobView:
    owner, run_id = changes.pop("owner", COORDINATOR), changes.pop("run_id", "run-1")
    base: dict[str, Any] = {
        "rev": rev,
        "key": JobKey(owner=owner, run_id=run_id, job_id=job_id),
        "job_name": "build",
        "workflow_name": "ci",
        "repo_url": "https://example.org/a.git",
        "ref": "main",
        "sha": "0" * 40,
        "request_id": None,
        "state": state,
        "outcome": None,
        "error": None,
        "agent_id": "agent-1",
        "scaler_name": "pi",
        "attempt": 1,
        "accepted_at": time.time() - 20,
        "queue_deadline_at": None,
        "started_at": time.time() - 10,
        "completed_at": None,
        "steps": (),
        "n_log_lines": 3,
        "labels": ("linux",),
    }
    return JobView(**{**base, **changes})


def finished(rev: int, job_id: str, outcome: str = "success", **changes: Any) -> JobView:
    return job(
        rev,
        job_id,
        "finished",
        **{"outcome": outcome, "completed_at": time.time(), **changes},
    )


def child_state(rev: int, name: str, **changes: Any) -> ChildState:
    base: dict[str, Any] = {
        "pid": None,
        "state": "RUNNING",
        "n_restarts": 0,
        "since": 1.0,
        "reason": "",
    }
    return ChildState(rev=rev, name=name, **{**base, **changes})


def secret(text: str) -> Secret:
    return Secret(text)
