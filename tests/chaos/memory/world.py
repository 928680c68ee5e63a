"""Coordinators, a worker and its agents, wired in memory."""

import logging
import random
import shutil
from pathlib import Path
from typing import Any

import gevent
import msgspec

from kici.config.model import Config, LabelSet, Scaler, ScalerConfig, Secret, Settings, WarmPool
from kici.contracts.link.lifecycle import DrainCut, DrainState, SnapshotRequest
from kici.contracts.states import WIRE_TERMINAL
from kici.contracts.wire.peer.heartbeat import HostFacts
from kici.coordinator.document import read_document
from kici.coordinator.service import Service
from kici.coordinator.settings import CoordinatorSettings
from kici.coordinator.store import Store
from kici.coordinator.tokens import Tokens
from kici.peer import coordinator as peer_coordinator
from kici.peer.main import Peer
from kici.pool import scalers as pool_scalers
from kici.pool.agent_socket import AgentSocket
from kici.pool.main import Pool
from kici.pool.scalers.base import EventKind, LaunchSpec
from kici.protocol.agent_session import AgentSession
from kici.protocol.coordinator_handshake import AcceptorHandshake
from kici.shell.dial import ConnectFailed
from kici.shell.upgrade import Upgrade
from kici.shell.websocket import Disconnected as ServerDisconnected
from kici.shell.websocket_client import Disconnected as ClientDisconnected
from tests.chaos.memory import backend as sim_backend
from tests.chaos.memory import disk
from tests.chaos.memory.agent import Script, SimAgent
from tests.chaos.memory.history import History
from tests.chaos.memory.links import Kernel, SimShell
from tests.chaos.memory.loop import Process, VirtualLoop
from tests.chaos.memory.wires import Wire

MAX_AGENTS = 3
RESTART_S = 0.3
LABELS = ("linux", "runtime:native")
SECRET = "hush-7f3a"


class Coordinator:
    """One coordinator and its data directory; ``start`` begins a life of it."""

    def __init__(self, world: "World", index: int) -> None:
        self.world = world
        self.name = f"coordinator-{index}"
        self.url = f"ws://{self.name}:4000"
        self.dir = world.dir / self.name
        self.process = Process(self.name)
        self.service: Any = None
        self.up = False
        self.wires: list[Wire] = []
        self.reachable = True

    def start(self) -> None:
        world = self.world
        self.process = Process("coordinator")
        self.up = True

        def live() -> None:
            settings = CoordinatorSettings(data_dir=str(self.dir), instance_id=self.name)
            self.service = service = Service(settings)
            service.tokens = world.tokens
            service.store.on_begin = lambda: gevent.spawn_later(0.1, service.flush)
            reports = service.dispatcher.reports
            progress = reports.progress

            def watched(instance_id: str, report: Any, now: float) -> None:
                # With both disks full nobody can keep it: said and not confirmed is all it is.
                kept = not (world.trouble.rates["outbox"] and world.trouble.rates["database"])
                if report.kind == "job" and report.state in WIRE_TERMINAL and kept:
                    world.history.heard(self.name, report)
                progress(instance_id, report, now)

            reports.progress = watched
            if world.foreign:
                _forget_numbers(service)
            while True:
                gevent.sleep(2.0)
                service.tick()

        world.spawn(self.process, live)

    def kill(self) -> None:
        self.up = False
        self.world.loop.kill(self.process)
        for wire in self.wires:
            wire.died(wire.ends[1], arrives=self.world.random.random() < 0.5)
        self.wires.clear()
        if self.service is not None:
            self.service.store._db.rollback()
            self.service.store._db.close()
            self.service = None

    def accept(self, end: Any) -> None:
        """One upgrade on ``/ws/peer``, as ``websocket_route`` serves it."""
        upgrade = Upgrade(
            path="/ws/peer", method="GET", headers=(), remote="127.0.0.1:1", early=b"", socket=None
        )
        self.service.serve_peer(end, upgrade)
        end.close()


class World:
    """Owns: everything of one schedule. Everything random comes from ``seed``."""

    def __init__(self, loop: VirtualLoop, seed: int, directory: Path) -> None:
        self.loop, self.seed, self.dir = loop, seed, directory
        self.random = random.Random(seed)
        self.history = History()
        self.trouble = disk.Trouble(random.Random(seed + 1), loop)
        self.kernels: dict[tuple[str, str], Kernel] = {}
        self.shells: dict[str, SimShell] = {}
        self.mains: dict[str, Any] = {}
        self.agents: dict[str, SimAgent] = {}
        self.specs: dict[str, LaunchSpec] = {}
        self.agent_wires: dict[str, Wire] = {}
        self.backend: Any = None
        self.spawn_failures = 0.0
        self.busy_rejects = 0.0
        self.drain = DrainState(rev=1, draining=False, stopping=False, reason="")
        self.jobs: dict[str, Coordinator] = {}
        #: The coordinators know nothing of numbered lines, as real KiCI ones.
        self.foreign = random.Random(seed + 2).random() < 0.25
        self._scripts: dict[str, Script] = {}
        sim_backend.worlds[:] = [self]
        peer_coordinator.connect = self.dial_coordinator
        # Coordinators of one cluster share the database that knows the credentials.
        self.shared = Store(directory / "shared", lambda: int(self.wall() * 1000))
        self.tokens = Tokens(self.shared)
        n = self.random.choice((1, 1, 2))
        self.coordinators = [Coordinator(self, index) for index in range(n)]
        for one in self.coordinators:
            one.start()

    # --- time ------------------------------------------------------------------------

    @property
    def now(self) -> float:
        return self.loop.time

    def wall(self) -> float:
        import time

        return time.time()

    def spawn(self, process: Process, call: Any, *args: Any) -> Any:
        before, self.loop.current = self.loop.current, process
        try:
            return gevent.spawn(call, *args)
        finally:
            self.loop.current = before

    def say(self, text: str) -> None:
        self.history.log.append(f"{self.now - 1000:9.3f} {text}")

    # --- the worker ------------------------------------------------------------------

    def configure(self) -> None:
        """Mint a token and make the worker's configuration."""
        token = self.tokens.mint("worker").token
        rng = self.random
        base = Path(self.dir, "worker")
        base.mkdir(mode=0o700)
        warm = WarmPool(enabled=True, size=1, idle_timeout_s=120.0)
        enriched = (*LABELS, "kici:agent:fake")
        label_set = LabelSet(labels=LABELS, enriched=enriched, agent_labels=LABELS)
        self.config = Config(
            settings=Settings(
                role="worker",
                coordinator_urls=tuple(one.url for one in self.coordinators),
                join_token=Secret(token),
                credential_file=str(base / "credential"),
                instance_id="worker-1",
                data_dir=str(base / "data"),
                runtime_dir=str(base / "run"),
                queue_timeout_s=600.0,
                spawn_timeout_s=60.0,
                # Retention goes by the wall clock (P57), which jumps here.
                outbox_max_age_s=60 * 86400.0,
                log_spool_max_bytes=rng.choice((2**14, 2**20, 64 * 2**20)),
            ),
            scalers=ScalerConfig(
                scalers=(
                    Scaler(
                        name="s1",
                        type="fake",
                        max_agents=MAX_AGENTS,
                        label_sets=(label_set,),
                        warm_pool=warm if rng.random() < 0.2 else WarmPool(),
                    ),
                )
            ),
        )
        for pair in (("peer", "pool"), ("pool", "peer")):
            self.kernels[pair] = Kernel()

    def start_worker(self) -> None:
        for name in ("pool", "peer"):
            self.start_child(name)

    def start_child(self, name: str) -> None:
        if name in self.shells and self.shells[name].process.alive:
            return
        process = Process(name)

        def live() -> None:
            shell = SimShell(self.loop, process, name, self.config, self.kernels, self._told)
            self.shells[name] = shell
            shell.deliver("supervisor", self.drain)
            main: Any = Pool(shell) if name == "pool" else Peer(shell)
            self.mains[name] = main
            self.loop.later(0, None, self._introduce, name)
            main.run() if name == "pool" else main.serve()

        greenlet = self.spawn(process, live)
        process.on_death.append(greenlet)

    def kill_child(self, name: str, restart_s: float = RESTART_S) -> None:
        shell = self.shells.get(name)
        if shell is None or not shell.process.alive:
            return
        self._bury(shell.process)
        wires = [wire for one in self.coordinators for wire in one.wires]
        doomed = wires if name == "peer" else list(self.agent_wires.values())
        for wire in doomed:
            end = wire.ends[0] if name == "peer" else wire.ends[1]
            wire.died(end, arrives=self.random.random() < 0.5)
        if name == "pool":
            self.agent_wires.clear()
        for (source, target), kernel in self.kernels.items():
            if target == name:
                kernel.reader = None
            if source == name:
                kernel.writer = None
        self.loop.later(restart_s, None, self.start_child, name)

    def _bury(self, process: Process) -> None:
        self.loop.kill(process)
        self.loop.graveyard.append((self.mains.copy(), self.shells.copy(), process))

    def _introduce(self, name: str) -> None:
        owner = "pool" if name == "peer" else "peer"
        for reader, asked in ((name, owner), (owner, name)):
            shell = self.shells.get(asked)
            if shell is not None and shell.process.alive and asked == owner:
                message = SnapshotRequest(reader=reader)
                self.loop.later(0, shell.process, shell.deliver, "supervisor", message)

    def set_drain(self, draining: bool) -> None:
        self.drain = DrainState(
            rev=self.drain.rev + 1, draining=draining, stopping=False, reason="chaos"
        )
        self.tell_children(self.drain)

    def cut_drain(self) -> None:
        self.tell_children(DrainCut(reason="drain time is over"), only="pool")

    def tell_children(self, message: Any, only: str = "") -> None:
        for name, shell in self.shells.items():
            if shell.process.alive and only in ("", name):
                self.loop.later(0, shell.process, shell.deliver, "supervisor", message)

    def _told(self, sender: str, message: Any) -> None:
        """Views and receipts for web and supervisor: nobody reads them here."""

    # --- sockets ---------------------------------------------------------------------

    def dial_coordinator(self, url: str, *, timeout_s: float, max_size: int) -> Any:
        one = next(c for c in self.coordinators if url.startswith(c.url))
        gevent.sleep(0.002)
        if not one.up:
            raise ConnectFailed("connection refused", None)
        if one.process.paused or not one.reachable or one.service is None:
            gevent.sleep(timeout_s)
            raise ConnectFailed("timed out", None)
        wire = Wire(self.loop, one.name)
        process = self.loop.current
        assert process is not None
        mine, theirs = wire.pair(process, one.process, (ClientDisconnected, ServerDisconnected))
        one.wires.append(wire)
        self.spawn(one.process, one.accept, theirs)
        return mine

    def dial_pool(self, agent: SimAgent) -> Any:
        gevent.sleep(0.002)
        shell, pool = self.shells.get("pool"), self.mains.get("pool")
        if shell is None or pool is None or not shell.process.alive:
            raise ConnectFailed("connection refused", None)
        if shell.process.paused:
            gevent.sleep(10.0)
            raise ConnectFailed("timed out", None)
        wire = Wire(self.loop, agent.agent_id)
        mine, theirs = wire.pair(
            agent.process, shell.process, (ClientDisconnected, ServerDisconnected)
        )
        self.agent_wires[agent.agent_id] = wire

        def serve() -> None:
            server = pool._server
            session = AgentSession(
                f"c-{self.now}-{agent.agent_id}", verify=server._tokens.verify,
                bind=server._tokens.bind,
            )  # fmt: skip
            socket = AgentSocket(server, session, theirs)
            server._sockets.add(socket)
            socket.run()

        self.spawn(shell.process, serve)
        return mine

    # --- agents ----------------------------------------------------------------------

    def launch(self, spec: LaunchSpec) -> None:
        if self.random.random() < self.spawn_failures:
            self.history.fault("spawn failure")
            self.backend.tell(spec.agent_id, EventKind.FAILED, "no luck")
            return
        agent = SimAgent(self, spec.agent_id, dict(spec.env))
        self.agents[spec.agent_id] = agent
        self.specs[spec.agent_id] = spec
        self.history.most_agents = max(self.history.most_agents, len(self.agents))
        if len(self.agents) > MAX_AGENTS:
            self.history.violated(f"{len(self.agents)} agents, {MAX_AGENTS} are allowed")
        self.backend.tell(spec.agent_id, EventKind.STARTED, "")
        delay = self.random.choice((0.05, 0.05, 2.0))
        self.loop.later(delay, agent.process, lambda: gevent.spawn(agent.run))

    def reap(self, agent_id: str, grace_s: float) -> None:
        agent = self.agents.get(agent_id)
        if agent is None:
            self.backend.tell(agent_id, EventKind.EXITED, "was gone")
            return
        self.loop.later(0.001, agent.process, agent.stop)
        self.loop.later(grace_s, None, self.kill_agent, agent_id, "killed")

    def kill_agent(self, agent_id: str, how: str = "signal 9") -> None:
        agent = self.agents.get(agent_id)
        if agent is not None:
            self.loop.kill(agent.process)
            self.loop.graveyard.append(agent)
            self.history.died(agent_id)
            self.agent_gone(agent, how)

    def agent_gone(self, agent: SimAgent, how: str) -> None:
        self.agents.pop(agent.agent_id, None)
        wire = self.agent_wires.pop(agent.agent_id, None)
        if wire is not None:
            wire.died(wire.ends[0], arrives=True)
        if self.backend is not None:
            self.backend.tell(agent.agent_id, EventKind.EXITED, how)

    def script(self, job_id: str) -> Script:
        # By order of first execution: the same for every replay of a seed.
        if job_id not in self._scripts:
            self._scripts[job_id] = Script(random.Random(f"{self.seed}/{len(self._scripts)}"))
        return self._scripts[job_id]

    # --- jobs ------------------------------------------------------------------------

    def submit(self, one: Coordinator, run_id: str | None = None) -> str | None:
        """A job, if that coordinator runs; its id."""
        if not one.up or one.service is None or one.process.paused:
            return None
        document = {
            "name": "build", "runs-on": ["linux"], "steps": [{"run": "true"}],
            "secrets": {"TOKEN": SECRET},
        }  # fmt: skip
        before, self.loop.current = self.loop.current, one.process
        try:
            job = one.service.dispatcher.submit(read_document(document), run_id, self.now)
        except Exception:  # noqa: BLE001 - the database refused: nothing was promised
            return None
        finally:
            self.loop.current = before
        self.jobs[job.job_id] = one
        return str(job.job_id)

    def cancel(self, job_id: str, force: bool) -> None:
        one = self.jobs[job_id]
        if one.up and one.service is not None and not one.process.paused:
            before, self.loop.current = self.loop.current, one.process
            try:
                one.service.dispatcher.cancel(job_id, "chaos", force, self.now)
            except Exception:  # noqa: BLE001 - the database refused
                self.say("cancel refused by the database")
            finally:
                self.loop.current = before

    def close(self) -> None:
        for name in list(self.shells):
            self._bury(self.shells[name].process)
        for one in self.coordinators:
            one.kill()
        for agent in self.agents.values():
            self.loop.kill(agent.process)
        self.shared._db.close()
        shutil.rmtree(self.dir, ignore_errors=True)


def _forget_numbers(service: Service) -> None:
    """Make it a coordinator that does not count lines."""
    logs = service.dispatcher._endings._logs
    append, finish = logs.append, logs.finish

    def unnumbered(job_id: str, chunk: Any) -> None:
        append(job_id, msgspec.structs.replace(chunk, first_line=None, n_covered=None))

    logs.append = unnumbered
    logs.finish = lambda job_id, totals=None, notes=(): finish(job_id, None, notes)


def _acceptance(self: AcceptorHandshake, verdict: Any, sealer: Any) -> Any:
    response, following = _accept(self, verdict, sealer)
    if sim_backend.worlds[-1].foreign:
        response = msgspec.structs.replace(response, counts_lines=None)
    return response, following


_accept = AcceptorHandshake.acceptance


def install() -> None:
    """Once per interpreter."""
    pool_scalers.BACKENDS["fake"] = ("tests.chaos.memory.backend", "SimBackend")
    disk.install(lambda: sim_backend.worlds[-1].trouble)
    from kici.peer import main as peer_main

    peer_main.host_facts = HostFacts
    AcceptorHandshake.acceptance = _acceptance
    logging.disable(logging.CRITICAL)
