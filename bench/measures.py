"""Benches of one worker: start, idle, memory, latency, throughput, card.

Each takes a ``Report`` and adds its rows; numbers are medians with their range.
"""

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench import processes
from bench.lines import flow
from bench.pages import pages
from bench.report import Report
from bench.work import Work
from bench.worker_end import Rig, WorkerProcess, rig
from kici.contracts.wire.peer.jobs import PeerJobCancel

RUNS = 5
IDLE_S = 60.0
#: Jobs of the memory bench; the slope begins after a tenth of them.
N_JOBS = int(os.environ.get("BENCH_MEMORY_JOBS", "10000"))


def start(report: Report) -> None:
    """From just before the exec, of a worker with a new data directory."""
    health, connected, ready, cpu = [], [], [], []
    for _ in range(RUNS):
        with NotifySocket() as notify:
            made = Rig({"NOTIFY_SOCKET": notify.path})
            try:
                worker = made.worker

                def since(worker: WorkerProcess = worker) -> float:
                    return time.perf_counter() - worker.started_at

                moments: dict[str, float] = {}

                def look(
                    moments: dict[str, float] = moments,
                    made: Rig = made,
                    notify: NotifySocket = notify,
                    since: Callable[[], float] = since,
                ) -> bool:
                    if "ready" not in moments and notify.ready():
                        moments["ready"] = since()
                    if "connected" not in moments and made.coordinator.joined:
                        moments["connected"] = since()
                    if "health" not in moments and made.worker.health():
                        moments["health"] = since()
                    return len(moments) == 3

                while not look():
                    made.loop.turn(0.002)
                    if since() > 30:
                        raise TimeoutError(f"worker started only so far: {moments}")
                health.append(moments["health"])
                connected.append(moments["connected"])
                ready.append(moments["ready"])
                cpu.append(processes.usage(made.worker.pids).cpu_s)
            finally:
                made.close()
    report.add("start to first /health", health, "s", budget="<= 0.8", reference="2.15")
    report.add("start to READY=1", ready, "s")
    report.add("start to connected", connected, "s")
    report.add("CPU of a start", cpu, "s")


def idle(report: Report) -> None:
    """A connected worker with nothing to do."""
    with rig() as made:
        made.loop.rest(5)
        before = processes.usage(made.worker.pids)
        for _ in range(2):
            made.loop.rest(IDLE_S / 2)
            assert made.coordinator.link is not None
            made.coordinator.link.beat()
        used = processes.usage(made.worker.pids).since(before)
        memory = processes.memory(made.worker.pids)
        for pid in made.worker.pids:
            part = processes.memory_of(pid)
            report.note(
                f"idle {processes.title(pid)}", f"PSS {part.pss:.1f} USS {part.uss:.1f} MiB"
            )
        alone = pages(made.worker.pids)
        # Flask comes with the first page; the probes are answered without it.
        visits = [_visit(made) for _ in range(11)]
        made.loop.rest(2)
        opened = processes.memory(made.worker.pids)
        alone_opened = pages(made.worker.pids)
    report.add("idle CPU", [used.cpu_s / IDLE_S * 100], "% of a core", "<= 0.2", "0.95")
    report.add("idle wake-ups", [used.wakeups / IDLE_S], "/s")
    report.add("idle bytes written", [used.written_bytes], "B/min", "0")
    report.add("idle PSS sum", [memory.pss], "MiB", "<= 64", "162")
    report.add("idle USS sum", [memory.uss], "MiB")
    report.add("PSS sum after the page was opened", [opened.pss], "MiB")
    for title, found in (("idle", alone), ("after the page was opened", alone_opened)):
        if found is not None:
            report.add(f"each page once, anonymous, {title}", [found[0]], "MiB")
            report.add(f"each page once, of files, {title}", [found[1]], "MiB")
    report.add("first page", visits[:1], "ms")
    report.add("later pages", visits[1:], "ms")


def _visit(made: Rig) -> float:
    """Milliseconds of one ``GET /`` of the page."""
    began = time.perf_counter()
    status = made.worker.get("/")
    assert status == 200, status
    return (time.perf_counter() - began) * 1000


def memory(report: Report) -> None:
    """With agents, then after many jobs."""
    counts = (N_JOBS // 10, N_JOBS)
    with rig() as made:
        for agents in (1, 10, 100):
            made.add_agents(agents - len(made.agents))
            made.loop.rest(2)
            now = processes.memory(made.worker.pids)
            report.add(f"PSS with {agents} agents", [now.pss], "MiB")
        report.add("USS with 100 agents", [now.uss], "MiB")
        work = Work(made)
        work.run_jobs(200, at_once=32)
        made.loop.rest(1)
        first = processes.memory(made.worker.pids)
        done, at = 0, {}
        for count in counts:
            work.run_jobs(count - done, at_once=32)
            done = count
            made.loop.rest(1)
            at[count] = processes.memory(made.worker.pids)
            report.add(f"PSS after {count} jobs", [at[count].pss], "MiB")
        low, high = counts
        slope = (at[high].uss - at[low].uss) * 1024 / (high - low)
        report.add(f"growth a job ({low} to {high})", [slope], "KiB", "<= 1", "140")
        report.note("USS after the first 200 jobs", f"{first.uss:.1f} MiB")


def latency(report: Report) -> None:
    """One job at a time on an idle agent; the disk's fsync is part of ack and terminal."""
    rows: list[dict[str, float]] = []
    cancels, drains = [], []
    with rig() as made:
        work, agent = Work(made), made.add_agents(1)[0]
        for _ in range(20):
            work.one(agent)
        rows += [work.one(agent) for _ in range(300)]
        cancels = [_cancel(made, work) for _ in range(100)]
    for _ in range(RUNS):
        with rig() as made:
            drains.append(_drain(made))
    for name, budget, reference in (
        ("ack", "p50 <= 2, p99 <= 8", "3.2 / 10.7"),
        ("dispatch", "p50 <= 2, p99 <= 8", "3.4 / 10.9"),
        ("terminal", "p50 <= 4", "5.0 / 14.6"),
    ):
        title = "agent's end -> terminal" if name == "terminal" else f"reroute -> {name}"
        report.percentiles(title, [row[name] for row in rows], "ms", budget, reference)
    with volatile() as env, rig(env) as made:
        work, agent = Work(made), made.add_agents(1)[0]
        rows = [work.one(agent) for _ in range(220)][20:]
    for name in ("ack", "terminal"):
        report.percentiles(f"{name} without a disk (volatile)", [row[name] for row in rows], "ms")
    report.percentiles("cancel -> agent", cancels, "ms")
    report.add("drain -> coordinator knows", drains, "ms")


def _cancel(made: Rig, work: Work) -> float:
    loop, agent = made.loop, made.agents[0]
    agent.automatic = False
    started: list[tuple[str, str]] = []
    told: list[float] = []
    agent.dispatched = lambda run_id, job_id: started.append((run_id, job_id))
    agent.cancelled = lambda job_id: told.append(time.perf_counter())
    work.offer()
    loop.run(lambda: started, "job is dispatched", 10)
    run_id, job_id = started[0]
    agent.begin(run_id, job_id)
    loop.rest(0.004)
    at = time.perf_counter()
    work.link.say(PeerJobCancel(run_id=run_id, job_id=job_id, reason="bench"))
    loop.run(lambda: told, "agent is told", 10)
    agent.finish(run_id, job_id, "cancelled")
    loop.run(lambda: job_id in work.ended, "job ends", 10)
    return (told[0] - at) * 1000


def _drain(made: Rig) -> float:
    known: list[float] = []

    def hear(message: object) -> None:
        if getattr(message, "draining", False) and not known:
            known.append(time.perf_counter())

    made.coordinator.hear = hear
    made.add_agents(1)
    Work(made).offer()
    made.coordinator.hear = hear
    made.agents[0].automatic = False
    made.loop.rest(0.3)
    at = time.perf_counter()
    made.worker.signal(15)
    made.loop.run(lambda: known, "coordinator knows of the drain", 10)
    return (known[0] - at) * 1000


def throughput(report: Report) -> None:
    """Log lines from one and from 32 agents through to the coordinator."""
    with rig() as made:
        made.add_agents(1)
        one = [flow(made, 1, 100_000) for _ in range(RUNS)]
        made.add_agents(31)
        many = [flow(made, 32, 160_000) for _ in range(RUNS)]
        peak = processes.memory(made.worker.pids)
        made.loop.rest(6)
        after = processes.memory(made.worker.pids)
    for title, flows in (("one agent", one), ("32 agents", many)):
        report.add(f"log lines, {title}", [f.lines_per_s for f in flows], "/s")
        report.add(f"log MB, {title}", [f.lines_per_s * 100 / 1e6 for f in flows], "MB/s")
        report.add(
            f"log lines a CPU second, {title}",
            [f.lines_per_cpu_s for f in flows], "", ">= 200,000", "41,000",
        )  # fmt: skip
        report.add(f"log lines lost, {title}", [f.n_sent - f.n_arrived for f in flows], "", "0",
                   "85,700 of 100,000" if title == "one agent" else "")  # fmt: skip
    report.add("PSS right after the flood", [peak.pss], "MiB", "", "246")
    report.add("PSS 6 s after the flood", [after.pss], "MiB")


def jobs(report: Report) -> None:
    """Jobs of one step through eight agents that end them at once."""
    with rig() as made:
        made.add_agents(8)
        work = Work(made)
        work.run_jobs(200)
        rates, costs = [], []
        for _ in range(RUNS):
            before = processes.usage(made.worker.pids)
            rates.append(300 / work.run_jobs(300))
            costs.append(processes.usage(made.worker.pids).since(before).cpu_s / 300 * 1000)
    report.add("jobs through 8 agents", rates, "/s")
    report.add("CPU a job", costs, "ms", "<= 4", "7.1")


def card(report: Report) -> None:
    """Bytes that go to the disk for one job, durable and volatile."""
    with volatile() as memory_only:
        cases = (("default", {}, "<= 5,120", "5,051"), ("volatile", memory_only, "0", ""))
        for title, env, budget, reference in cases:
            with rig(env) as made:
                made.add_agents(8)
                work, values = Work(made), []
                work.run_jobs(100)
                for _ in range(RUNS):
                    before = processes.usage(made.worker.pids)
                    work.run_jobs(100)
                    used = processes.usage(made.worker.pids).since(before)
                    values.append(used.written_bytes / 100)
            report.add(f"bytes written a job, {title}", values, "B", budget, reference)


@contextmanager
def volatile() -> Iterator[dict[str, str]]:
    """Settings that keep job state off the disk."""
    directory = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    try:
        yield {"KICI_JOB_STATE": "volatile", "KICI_RUNTIME_DIR": directory}
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def sealing(report: Report) -> None:
    """Peer frames, pure: no socket."""
    from kici.protocol.handshake import Sealer

    sealer, plain, iv = Sealer(bytes(32)), b"x" * 300, bytes(12)
    frame = sealer.seal(plain, iv)
    for title, call in (
        ("peer frames sealed", lambda: sealer.seal(plain, iv)),
        ("peer frames opened", lambda: sealer.open(frame)),
    ):
        rates = []
        for _ in range(RUNS):
            began = time.process_time()
            for _ in range(50_000):
                call()
            rates.append(50_000 / (time.process_time() - began))
        report.add(title + " (300 B)", rates, "/CPU s")


class NotifySocket:
    """The service manager's socket, to see READY=1."""

    def __init__(self) -> None:
        self._dir = tempfile.mkdtemp(prefix="kici-bench-")
        self.path = f"{self._dir}/notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.setblocking(False)

    def ready(self) -> bool:
        while True:
            try:
                if b"READY=1" in self._socket.recv(4096).split(b"\n"):
                    return True
            except BlockingIOError:
                return False

    def __enter__(self) -> "NotifySocket":
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.close()
        shutil.rmtree(self._dir, ignore_errors=True)
