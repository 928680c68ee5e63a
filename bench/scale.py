"""Many: 200 agents on one worker, 2,000 workers on our coordinator."""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from bench import processes
from bench.report import Report
from bench.sockets import Loop, dial
from bench.work import Work
from bench.worker_end import ROOT, SCRIPTS, rig
from kici.contracts.link.views import AgentSlot
from kici.contracts.wire import encode
from kici.contracts.wire.peer.heartbeat import HostFacts
from kici.contracts.wire.peer.jobs import JobProgress, JobRerouteAck
from kici.coordinator.store import Store
from kici.coordinator.tokens import Tokens
from kici.protocol.heartbeat import Advert
from kici.protocol.machine import Actions, Close, Send
from kici.protocol.peer_actions import Authentication, Choose, Joined, Offered, PeerSettings
from kici.protocol.peer_link import PeerLink
from kici.protocol.peer_session import PeerSession
from kici.protocol.settings_pull import SettingsPull

N_AGENTS = 200
N_WORKERS = int(os.environ.get("BENCH_WORKERS", "2000"))
N_JOBS = 1000
HEARTBEATS_S = 30.0
_SLOT = AgentSlot(
    agent_id="a", labels=("linux", "runtime:native"), active_jobs=0, max_concurrency=4,
    platform="linux", arch="x64", mandatory_labels=(), scaler_name=None,
)  # fmt: skip


def agents(report: Report) -> None:
    """All of them connect at once, then every one gets jobs."""
    with rig() as made:
        before = processes.memory(made.worker.pids)
        began = time.perf_counter()
        made.add_agents(N_AGENTS)
        report.add(f"{N_AGENTS} agents register", [time.perf_counter() - began], "s")
        made.loop.rest(2)
        now = processes.memory(made.worker.pids)
        report.add("USS an agent", [(now.uss - before.uss) * 1024 / N_AGENTS], "KiB")
        work = Work(made)
        rates, costs = [], []
        for _ in range(5):
            used = processes.usage(made.worker.pids)
            rates.append(400 / work.run_jobs(400, at_once=N_AGENTS))
            costs.append(processes.usage(made.worker.pids).since(used).cpu_s / 400 * 1000)
        report.add(f"jobs through {N_AGENTS} agents", rates, "/s")
        report.add(f"CPU a job, {N_AGENTS} agents", costs, "ms")
        used = processes.usage(made.worker.pids)
        made.loop.rest(20)
        idle = processes.usage(made.worker.pids).since(used)
        report.add(f"CPU with {N_AGENTS} idle agents", [idle.cpu_s / 20 * 100], "% of a core")


class Worker:
    """A worker's pure session on a raw socket; takes every job and ends it at once."""

    def __init__(self, loop: Loop, port: int, number: int, token: str) -> None:
        name = f"worker-{number}"
        settings = PeerSettings(instance_id=name, software_version="0.1")
        link = PeerLink(
            "ws://bench", settings, SettingsPull(),
            wall=lambda: int(time.time() * 1000), facts=HostFacts, new_id=lambda: "id",
        )  # fmt: skip
        self.session = PeerSession(settings, link, X25519PrivateKey.generate(), os.urandom)
        self.joined = False
        self.n_jobs = 0
        self._token = token
        link.advertise(Advert(agents=(_SLOT,)), time.monotonic())
        self.end = dial(loop, port, "/ws/peer")
        self.end.opened = lambda: self.perform(self.session.start(time.monotonic()))
        self.end.heard = lambda data: self.perform(self.session.receive(data, time.monotonic()))

    def tick(self, now: float) -> None:
        deadline = self.session.deadline
        if deadline is not None and now >= deadline:
            self.perform(self.session.tick(now))

    def perform(self, actions: Actions) -> None:
        for action in actions:
            if isinstance(action, Send):
                self.end.send(action.text.encode())
            elif isinstance(action, Choose):
                proof = Authentication(mode="token", secret=self._token)
                self.perform(self.session.authenticate(proof, time.monotonic()))
            elif isinstance(action, Joined):
                self.joined = True
            elif isinstance(action, Offered):
                self._run(action)
            elif isinstance(action, Close):
                self.end.close()

    def _run(self, offer: Offered) -> None:
        self.n_jobs += 1
        ack = JobRerouteAck(message_id=offer.message_id, accepted=True)
        end = JobProgress(
            kind="job", run_id=offer.run_id, job_id=offer.job_id, job_name="", step_index=0,
            step_name="", state="success", timestamp=int(time.time() * 1000),
        )  # fmt: skip
        self.perform(self.session.relay(encode(ack)))
        self.perform(self.session.relay(encode(end)))


def workers(report: Report) -> None:
    """Join storm, heartbeats, offers and memory of our coordinator."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    directory = Path(tempfile.mkdtemp(prefix="kici-bench-"))
    store = Store(str(directory), lambda: int(time.time() * 1000))
    tokens = [Tokens(store).mint("worker").token for _ in range(N_WORKERS)]
    store.close()
    process = _coordinator(directory)
    loop = Loop()
    try:
        port = _port(directory, process)
        _measure(report, loop, port, process.pid, tokens, directory)
    finally:
        loop.close()
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        process.kill()
        process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def _measure(
    report: Report, loop: Loop, port: int, pid: int, tokens: list[str], directory: Path
) -> None:
    before, used = processes.memory([pid]), processes.usage([pid])
    began = time.perf_counter()
    fleet = [Worker(loop, port, n, token) for n, token in enumerate(tokens)]
    loop.run(lambda: all(worker.joined for worker in fleet), "all workers join", 300)
    seconds, storm = time.perf_counter() - began, processes.usage([pid]).since(used)
    report.add(f"{len(fleet)} workers join (tokens)", [seconds], "s")
    report.add("coordinator CPU a join", [storm.cpu_s / len(fleet) * 1000], "ms")
    loop.rest(2)
    memory = processes.memory([pid])
    report.add("coordinator USS a worker", [(memory.uss - before.uss) * 1024 / len(fleet)], "KiB")
    used, until = processes.usage([pid]), time.perf_counter() + HEARTBEATS_S
    while time.perf_counter() < until:
        _turn(loop, fleet)
    beats = processes.usage([pid]).since(used)
    report.add(
        f"coordinator CPU with {len(fleet)} idle workers",
        [beats.cpu_s / HEARTBEATS_S * 100], "% of a core",
    )  # fmt: skip
    _offers(report, loop, fleet, port, pid, directory)


def _offers(
    report: Report, loop: Loop, fleet: list[Worker], port: int, pid: int, directory: Path
) -> None:
    token = (directory / "admin-token").read_text().strip()
    script = (
        "import sys,urllib.request\n"
        "url,token,n,body=sys.argv[1],sys.argv[2],int(sys.argv[3]),sys.argv[4].encode()\n"
        "for _ in range(n):\n"
        "    r=urllib.request.Request(url,data=body,method='POST',headers={'Authorization':"
        "'Bearer '+token,'Content-Type':'application/json'})\n"
        "    urllib.request.urlopen(r,timeout=30).read()\n"
    )
    url = f"http://127.0.0.1:{port}/api/v1/jobs"
    job = json.dumps({"name": "b", "runs-on": ["linux"], "steps": [{"run": "true"}]})
    used, began = processes.usage([pid]), time.perf_counter()
    command = ["python3", "-c", script, url, token, str(N_JOBS), job]
    submitter = subprocess.Popen(command)
    try:
        deadline = time.perf_counter() + 120
        while sum(worker.n_jobs for worker in fleet) < N_JOBS:
            _turn(loop, fleet)
            if time.perf_counter() > deadline:
                raise TimeoutError(f"{sum(w.n_jobs for w in fleet)} of {N_JOBS} jobs offered")
    finally:
        submitter.kill()
        submitter.wait()
    seconds = time.perf_counter() - began
    cpu = processes.usage([pid]).since(used).cpu_s
    report.add(f"jobs submitted, offered and ended, {len(fleet)} workers", [N_JOBS / seconds], "/s")
    report.add("coordinator CPU a job", [cpu / N_JOBS * 1000], "ms")


_looked = 0.0


def _turn(loop: Loop, fleet: list[Worker]) -> None:
    """Turn; every half second look at the deadlines of the fleet."""
    global _looked
    loop.turn(0.05)
    now = time.monotonic()
    if now - _looked > 0.5:
        _looked = now
        for worker in fleet:
            worker.tick(now)


def _coordinator(directory: Path) -> "subprocess.Popen[bytes]":
    env = {k: v for k, v in os.environ.items() if not k.startswith("KICI_")}
    command = [
        str(SCRIPTS / "kici-coordinator"), "run", "--host", "127.0.0.1", "--port", "0",
        "--data-dir", str(directory), "--port-file", str(directory / "port"),
    ]  # fmt: skip
    with open(os.devnull, "wb") as sink:
        return subprocess.Popen(
            command, env=env | {"PYTHONPATH": str(ROOT)}, stdout=sink, stderr=sink
        )


def _port(directory: Path, process: "subprocess.Popen[bytes]") -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            port = int((directory / "port").read_text())
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
            return port
        time.sleep(0.02)
    raise TimeoutError("the coordinator does not answer")
