"""A real worker under attack: a scripted coordinator above it, scripted agents below it.

    with besieged(tmp_path) as siege:
        siege.offer("j1")                       # an offer; its answer comes by siege.ack("j1")
        agent = siege.agent("a1")               # a registered agent on a real WebSocket
        siege.unharmed()                        # same processes, no descriptor more

Every wait has a deadline. ``unharmed`` is the point: no process died, none keeps a descriptor.
"""

import contextlib
import json
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support import offers
from tests.support.house import House
from tests.support.scripted_coordinator import ScriptedCoordinator, Worker
from tests.support.waiting import wait_for

TOKEN = "kici_join_v1.eyJvcmdJZCI6ImRlZmF1bHQifQ." + "c0" * 32
CREDENTIAL = "cd" * 32
WAIT_S = 15.0


def descriptors(pid: int) -> int:
    """Open descriptors of a process of ours."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError(f"no VmRSS of {pid}")


def family(house: House) -> list[int]:
    """The supervisor and its children, as the kernel knows them."""
    assert house.worker is not None
    shown = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(house.worker.pid)], capture_output=True, text=True
    )
    return [house.worker.pid, *(int(pid) for pid in shown.stdout.split())]


class Vitals:
    """What the processes of a worker looked like before: ``unharmed`` compares."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.pids = family(house)
        assert len(self.pids) == 4, self.pids
        self.before = {pid: descriptors(pid) for pid in self.pids}

    def grown(self) -> dict[int, tuple[int, int]]:
        now = {pid: descriptors(pid) for pid in self.pids}
        return {p: (self.before[p], n) for p, n in now.items() if n > self.before[p]}

    def unharmed(self) -> None:
        """The same four processes, and none holds more descriptors than before."""
        given_back = False
        with contextlib.suppress(AssertionError):
            given_back = wait_for(lambda: not self.grown(), "descriptors given back", WAIT_S)
        assert family(self._house) == self.pids, self._house.worker.log.read_text()[-4000:]
        assert given_back, self.grown()
        assert self._house.web("GET", "/health")[0] == 200
        bad = [line for line in self._house.worker.lines() if "Traceback" in json.dumps(line)]
        assert not bad, bad[:2]


class Agent:
    """An agent that says what the test says, on a real WebSocket."""

    def __init__(self, port: int, agent_id: str = "a1") -> None:
        self.agent_id = agent_id
        opening = connect(
            f"ws://127.0.0.1:{port}/ws",
            compression=None,
            max_size=None,
            proxy=None,
            open_timeout=15,
        )
        self.socket = opening.__enter__()

    def register(self, *labels: str, **more: Any) -> dict[str, Any]:
        """Say ``agent.register``; the acknowledgement."""
        self.say(registration(self.agent_id, labels or ("linux", "scripted"), **more))
        return self.expect("register.ack")

    def say(self, message: dict[str, Any] | str | bytes) -> None:
        self.socket.send(message if isinstance(message, str | bytes) else json.dumps(message))

    def expect(self, kind: str, timeout_s: float = WAIT_S) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while True:
            message = json.loads(self.socket.recv(max(0.01, deadline - time.monotonic())))
            if message["type"] == kind:
                return message

    def job(self, kind: str, dispatch: dict[str, Any], **more: Any) -> None:
        """A message about a dispatched job."""
        ids = {"runId": dispatch["runId"], "jobId": dispatch["jobId"]}
        stamp = {"messageId": f"{kind}-{time.monotonic()}", "timestamp": time.time() * 1000}
        self.say({"type": kind} | ids | stamp | more)

    def closed(self, timeout_s: float = WAIT_S) -> tuple[int, str]:
        """Code and reason of the worker's close; messages before it are dropped."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self.socket.recv(max(0.01, deadline - time.monotonic()))
            except ConnectionClosed as end:
                return (end.rcvd.code, end.rcvd.reason) if end.rcvd else (1006, "")

    def close(self) -> None:
        self.socket.close()


def reroute(job_id: str, **changes: Any) -> dict[str, Any]:
    """A ``job.reroute`` for an agent with the label ``scripted``."""
    job = {
        "messageId": f"m-{job_id}",
        "runsOnLabels": [["scripted"]],
        "jobConfig": {"native": {"version": 1, "steps": [{"run": "true"}]}},
        "repoUrl": "file:///nowhere",
        "ref": "main",
        "sha": "0" * 40,
    }
    return offers.reroute(job_id, **(job | changes))


def registration(agent_id: str, labels: Any, **more: Any) -> dict[str, Any]:
    return {
        "type": "agent.register",
        "messageId": f"register-{agent_id[:40]}",
        "agentId": agent_id,
        "labels": list(labels),
        "platform": "linux",
        "arch": "x64",
    } | more


class Siege:
    """Owns: a worker process, the coordinator it is joined to, the agents of the test."""

    def __init__(self, root: Path, env: dict[str, str], scalers: str | None) -> None:
        self.coordinator = ScriptedCoordinator()
        url = {"KICI_CLUSTER_COORDINATOR_URL": self.coordinator.url}
        self.house = House(root, env={"KICI_AGENT_AUTH": "none"} | url | env)
        self.house.write_scalers(scalers)
        self.link: Worker
        self.agents: list[Agent] = []

    def start(self) -> None:
        self.house.start_worker(TOKEN, connected=False)
        self.accept(credential=CREDENTIAL)
        wait_for(self.house.pool_ready, "pool ready")
        self.vitals = Vitals(self.house)

    def accept(self, **welcome: Any) -> Worker:
        """Take the worker's (next) connection."""
        self.link = self.coordinator.join(WAIT_S, **welcome)
        return self.link

    def agent(self, agent_id: str = "a1", *labels: str, **more: Any) -> Agent:
        one = self.stranger(agent_id)
        one.register(*labels, **more)
        return one

    def stranger(self, agent_id: str = "a1") -> Agent:
        """A connection that has said nothing yet."""
        self.agents.append(Agent(self.house.port, agent_id))
        return self.agents[-1]

    def offer(self, job_id: str, **changes: Any) -> dict[str, Any]:
        """Offer a job; its answer."""
        self.link.send(reroute(job_id, **changes))
        return self.answer()

    def answer(self) -> dict[str, Any]:
        return self.link.expect("job.reroute.ack", WAIT_S, skip=(*NOISE, "job.progress"))

    def ended(self, job_id: str, timeout_s: float = WAIT_S) -> dict[str, Any]:
        """The terminal report of a job, acknowledged."""
        deadline = time.monotonic() + timeout_s
        while True:
            left = max(0.01, deadline - time.monotonic())
            report = self.link.expect("job.progress", left, skip=(*NOISE, "job.reroute.ack"))
            if report["jobId"] != job_id or report["kind"] != "job":
                continue
            if report["state"] in ("success", "failed", "cancelled"):
                self.receipt(report)
                return report

    def receipt(self, report: dict[str, Any]) -> None:
        ids = {"runId": report["runId"], "jobId": report["jobId"], "state": report["state"]}
        self.link.send({"type": "job.progress.ack"} | ids)

    def unharmed(self) -> None:
        for agent in self.agents:
            agent.close()
        self.agents.clear()
        self.vitals.unharmed()

    def close(self) -> None:
        for agent in self.agents:
            agent.close()
        self.house.close()
        self.coordinator.close()


NOISE = ("peer.heartbeat", "peer.log.chunk", "scaler.event", "peer.clusterSettings.request")


@contextlib.contextmanager
def besieged(
    root: Path, *, env: dict[str, str] | None = None, scalers: str | None = None
) -> Iterator[Siege]:
    siege = Siege(root, env or {}, scalers)
    try:
        siege.start()
        yield siege
    finally:
        siege.close()


def mutated(rng: random.Random, frames: list[str]) -> str:
    """One of the recorded ``frames`` (JSON texts) with something wrong about it."""
    message = json.loads(rng.choice(frames))
    for _ in range(rng.randint(1, 3)):
        key = rng.choice([*message, "extra"])
        odd = [None, -1, 2**70, 1.5, "", "\0", "x" * 3000, [], {}, [[]], True, "../..", "\x1b[2J"]
        if rng.random() < 0.2:
            message.pop(key, None)
        else:
            message[key] = rng.choice(odd)
    text = json.dumps(message)
    if rng.random() < 0.2:
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice(["", "\0", '"', "\\", "}"]) + text[at + rng.randint(0, 3) :]
    return text
