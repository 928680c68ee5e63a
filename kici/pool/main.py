"""The pool process: the core, the agents' sockets, the backends, one loop."""

import logging
import os
from collections.abc import Sequence
from time import monotonic, time
from uuid import uuid4

import gevent
import msgspec
from gevent.event import Event as Signal

from kici.config.model import ScalerConfig
from kici.contracts.link import Message
from kici.contracts.link.jobs import JobStored, SettingsChanged, TokenRevoked
from kici.contracts.link.lifecycle import ConfigChanged, Hello, Leave
from kici.contracts.link.logs import LogsCancel, LogsRequest
from kici.contracts.link.views import SocketPassed
from kici.contracts.wire import Wire
from kici.contracts.wire.agent.session import AgentRegister, RegisterAck
from kici.errors import ConfigError, RemoteError
from kici.pool.actions import AnswerRegister, PauseAgent
from kici.pool.core import PoolCore
from kici.pool.events import (
    AgentLost,
    AgentRegistered,
    AgentSaid,
    Event,
    MachineRead,
    PeerBooted,
    ScalersChanged,
    Tick,
)
from kici.pool.fleet import Fleet
from kici.pool.gathering import Gatherings
from kici.pool.performer import Performer
from kici.pool.receipts import Receipts
from kici.pool.seam import AgentConnection
from kici.pool.server import AgentServer
from kici.pool.staff import unstored
from kici.pool.tokens import TokenIssuer
from kici.pool.undone import Undone
from kici.pool.watching import places, read_machine, watch_machine
from kici.protocol.machine import Action
from kici.shell.child import ChildBoot, ChildShell

_log = logging.getLogger("kici.pool")
#: Kept from the time that ``leave`` grants, for closing sockets and last words.
_LAST_S = 1.5
_scalers = msgspec.json.Decoder(ScalerConfig)


def run(boot: ChildBoot) -> int:
    """The pool's life; the exit code."""
    shell = ChildShell(boot)
    try:
        pool = Pool(shell)
    except ConfigError as error:
        shell.fail(str(error), configuration=True)
    return pool.run()


class Pool:
    """Owns: the core and the order in which its actions are performed.

    Told by: neighbours (inbox), agents (``AgentEvents``), backends. Events are handled at
    once and without a switch; their actions go through one queue and one greenlet, so that
    their order is the order of the events, even where performing has to wait.
    """

    def __init__(self, shell: ChildShell) -> None:
        self._shell = shell
        settings = shell.config.settings
        self._scalers = shell.config.scalers
        self._issuer = TokenIssuer(settings.data_dir, static_file=settings.agent_tokens_file)
        outsiders = settings.agent_auth == "none" or self._issuer.has_static
        self._core = PoolCore(
            shell.config,
            wall=time,
            new_id=lambda: str(uuid4()),
            outsiders=outsiders,
            boot_id=shell.boot_id,
        )
        self._server = AgentServer(self, self._issuer, auth=settings.agent_auth)
        self._fleet = Fleet(shell.config, self._issuer, self.apply)
        self._gatherings = Gatherings(self._server, shell.tell, settings.runtime_dir)
        self._performer = Performer(shell, self._fleet, self.apply)
        self._connections = self._performer.connections
        self._receipts = Receipts(lambda agent_id: unstored(self._core.board, agent_id))
        self._undone = Undone(self._performer.perform)
        self._sooner = Signal()

    def run(self) -> int:
        # First of all ask what exists, or the warm pools would be filled twice.
        self._fleet.configure(self._scalers)
        self.apply(MachineRead(read_machine(self._places())))
        self._enqueue(self._core.start(monotonic()))
        helpers = [
            gevent.spawn(self._undone.perform_all),
            gevent.spawn(self._keep_time),
            gevent.spawn(self._fleet.watch_health),
            gevent.spawn(self._fleet.shares.watch),
            gevent.spawn(self._fleet.watch_leftovers),
            gevent.spawn(self._fleet.watch_left_behind),
            gevent.spawn(watch_machine, self._places, self.apply),
        ]
        for helper in helpers:
            helper.link_exception(_crash)
        self._shell.ready()
        while True:
            received = self._shell.inbox.get()
            if isinstance(received.body, Leave):
                if received.body.handover:
                    return self._hand_over(received.body, helpers)
                return self._leave(received.body)
            self._react(received.sender, received.body, received.fds)

    def _react(self, sender: str, message: Message, fds: Sequence[int]) -> None:
        match message:
            case SocketPassed():
                for fd in fds[:1]:
                    self._server.take(message, fd)
            case Hello():
                if sender == "peer":
                    self._gatherings.stop()
                    self.apply(PeerBooted())
            case LogsRequest() | LogsCancel():
                self._gatherings.heard(message)
            case TokenRevoked(token_id=token_id):
                self._server.revoke(token_id)
            case SettingsChanged(agent_token_ttl_ms=ttl_ms):
                _log.info(
                    "Pulled cluster settings from leader; worker-spawned agents now use this TTL",
                    extra={"ttlMs": ttl_ms},
                )
                self._fleet.set_token_ttl(ttl_ms / 1000)
            case ConfigChanged(scalers=scalers):
                self._scalers = _scalers.decode(scalers)
                self.apply(ScalersChanged(self._scalers))
                self._fleet.configure(self._scalers)
            case JobStored():
                self.apply(message)
                self._receipts.stored()
            case _:
                self.apply(message)

    def _places(self) -> tuple[str, ...]:
        return places(self._shell.config.settings, self._scalers)

    def apply(self, event: Event | Message) -> None:
        """Let the core decide, and queue what it wants done."""
        self._enqueue(self._decide(event))

    def _decide(self, event: Event | Message) -> Sequence[Action]:
        """An agent's or a backend's greenlet would die alone and leave a torn core."""
        try:
            return self._core.handle(event, monotonic())
        except Exception:  # noqa: BLE001
            _log.critical("Pool core failed on %s", type(event).__name__, exc_info=True)
            os._exit(1)

    # --- AgentEvents (seam.py) ---------------------------------------------------------

    def registered(
        self, connection: AgentConnection, message: AgentRegister
    ) -> RegisterAck | RemoteError:
        self._connections[connection.connection_id] = connection
        event = AgentRegistered(connection.connection_id, message, connection.grant)
        actions = self._decide(event)
        answers = [action for action in actions if isinstance(action, AnswerRegister)]
        for action in actions:
            if isinstance(action, PauseAgent):
                # Before its reader goes on, not when the queue comes to it.
                self._performer.perform(action)
        self._enqueue([a for a in actions if not isinstance(a, AnswerRegister | PauseAgent)])
        if isinstance(answers[0].answer, RemoteError):
            self._connections.pop(connection.connection_id, None)
        return answers[0].answer

    def said(self, connection: AgentConnection, message: Wire) -> None:
        self._undone.wait_for_room()
        self.apply(AgentSaid(connection.connection_id, message))
        self._receipts.said(connection, message)

    def lost(self, connection: AgentConnection, reason: str) -> None:
        self.forgotten(connection)
        if not self._performer.leaves_agents:
            self.apply(AgentLost(connection.connection_id, reason))

    def forgotten(self, connection: AgentConnection) -> None:
        self._connections.pop(connection.connection_id, None)
        self._receipts.lost(connection)

    # --- what is decided and not yet done ----------------------------------------------

    def _enqueue(self, actions: Sequence[Action]) -> None:
        self._undone.add(actions)
        self._sooner.set()

    def _keep_time(self) -> None:
        """Tick at the core's deadline; every handled event may have moved it."""
        while True:
            deadline = self._core.deadline
            timeout = None if deadline is None else max(0.001, deadline - monotonic())
            self._sooner.clear()
            if not self._sooner.wait(timeout):
                self.apply(Tick())

    # --- the end -----------------------------------------------------------------------

    def _leave(self, message: Leave) -> int:
        """Reap all agents, close all sockets, within what the supervisor grants."""
        until = monotonic() + max(0.5, message.within_s - _LAST_S)
        self.apply(message)
        while monotonic() < until and self._busy():
            gevent.sleep(0.02)
        if self._busy():
            _log.warning("Agents are left behind, the next start reaps them")
        self._server.close(1001, "Worker is stopping", timeout_s=0.5)
        self._fleet.close()
        self._shell.flush(_LAST_S / 2)
        return 0

    def _hand_over(self, message: Leave, helpers: list[gevent.Greenlet]) -> int:
        """Agents stay and come back to the next start; what they have said is passed on."""
        until = monotonic() + max(0.5, message.within_s - _LAST_S)
        self._performer.leaves_agents = True
        gevent.killall(helpers[1:])  # no deadline expires any more; actions are performed
        self._server.close(1001, "Worker restarts", timeout_s=0.5)
        while monotonic() < until and self._undone:
            gevent.sleep(0.02)
        self._fleet.close(keep_shares=True)
        self._shell.flush(_LAST_S / 2)
        return 0

    def _busy(self) -> bool:
        return bool(self._undone) or self._core.n_launched > 0


def _crash(greenlet: gevent.Greenlet) -> None:
    """A bug of ours in a helper: the process must not live on without it."""
    _log.critical("Pool helper crashed: %r", greenlet.exception)
    os._exit(1)
