"""The library's ``Supervisor`` with our three children: a thin shell around pure machines.

Owns: the child table; through ``reload.Configuration`` the configuration, through
``drain.Drain`` the drain flag. Told by: children's control links, signals, ``kici-workerctl``.
"""

import logging
import os
import signal
import socket
import time
from collections.abc import Mapping

from supervisor.medusa import asyncore_25 as asyncore
from supervisor.states import SupervisorStates
from supervisor.supervisord import Supervisor

from kici.config.model import Config
from kici.contracts.link import lifecycle as link
from kici.contracts.link.envelope import Envelope
from kici.contracts.states import ChildName
from kici.errors import EXIT_CONFIG
from kici.protocol.urls import shown_url
from kici.shell.child import ChildBoot
from kici.shell.link import new_boot_id
from kici.shell.notify import Notifier
from kici.supervisor import drain, liveness, rpc
from kici.supervisor.children import Child
from kici.supervisor.drain_hearing import hear
from kici.supervisor.fork import RunChild
from kici.supervisor.library import ChildConfig, Options, group_config
from kici.supervisor.links import CHILDREN, ChildLinks
from kici.supervisor.reload import Configuration, Load
from kici.supervisor.roster import Roster
from kici.supervisor.signals import SignalQueue
from kici.supervisor.status import ServiceStatus

_log = logging.getLogger("kici.supervisor")

#: Longest sleep of the loop when no deadline is near. Every wake-up has a cause of its own
#: (signals, links); this only bounds an error in a deadline.
_MAX_POLL_S = 30.0


class Worker(Supervisor):
    def __init__(
        self,
        config: Config,
        table: Mapping[ChildName, RunChild],
        load: Load,
        pulse: liveness.Liveness,
        signals: SignalQueue,
        listener: socket.socket,
    ) -> None:
        options = Options()
        super().__init__(options)
        self.boot_id = new_boot_id()
        self._configuration = Configuration(config, load)
        self._table = table
        self._signals = signals
        self._listener = listener
        self._links = ChildLinks()
        self._drain = drain.Drain(config.settings.drain_timeout_s)
        self._liveness = pulse
        self._service = ServiceStatus(Notifier(os.environ))
        self._roster = Roster(self._service)
        self._exit_code = 0
        self._started = False
        options.poller.timeout_s = self._poll_timeout
        options.process_group_configs = [
            group_config(options, ChildConfig(options, name.value, self._make_child))
            for name in CHILDREN
        ]
        asyncore.socket_map[signals.fileno()] = signals

    def serve(self) -> int:
        """The loop; returns the exit code."""
        self._rpc = rpc.open_server(self, self._configuration.now.settings.runtime_dir)
        try:
            self.run()
        except asyncore.ExitNow:
            return self._exit_code
        finally:
            self._close()
        return self._exit_code

    def abandon(self) -> None:
        """After an uncaught exception."""
        self._roster.abandon()

    # --- what kici-workerctl may ask (rpc.Orders) ------------------------------------

    def stop(self, source: str) -> None:
        if not self._drain.stopping:
            self._perform(self._drain.stop(source, time.monotonic(), time.time()))

    def handover(self, source: str) -> None:
        """End, with agents alive (a restart of the service, an upgrade)."""
        self._perform(self._drain.handover(source, time.monotonic(), time.time()))

    def reload(self) -> None:
        """SIGHUP, ``reload.request`` and ``kici-workerctl reread`` (W136)."""
        self._service.reloading()
        done = self._configuration.reload()
        if done.changed is not None:
            self._roster.tell((ChildName.POOL, ChildName.WEB), done.changed)
        self._roster.tell((ChildName.WEB,), done.result)
        self._service.reloaded()

    # --- the library's loop ----------------------------------------------------------

    def reap(self, once: bool = False, recursionguard: int = 0) -> None:
        """Reap, and start again at once what may be started at once."""
        super().reap(once, recursionguard)
        if recursionguard == 0:
            for group in self.process_groups.values():
                group.transition()

    def handle_signal(self) -> None:
        for number in self._signals.take():
            name = signal.Signals(number).name
            if number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
                self._perform(self._drain.signal(name, time.monotonic(), time.time()))
            elif number == signal.SIGHUP and not self._drain.stopping:
                self.reload()
            else:
                _log.debug("Signal ignored", extra={"signal": name})

    def tick(self, now: float | None = None) -> None:
        """Once a turn: everything that has a deadline."""
        now = time.monotonic()
        self._perform(self._drain.tick(now))
        for action in self._liveness.tick(now):
            child = self._roster[ChildName(action.name)]
            if isinstance(action, liveness.SendPing):
                child.tell(link.Ping(number=action.number))
            else:
                extra = {"child": action.name, "silentForS": round(action.silent_for_s)}
                _log.error("Child does not answer and is killed", extra=extra)
                child.kill_now()
        self._service.tick(now, self._liveness.all_well(now))

    def _poll_timeout(self) -> float:
        if self.options.mood < SupervisorStates.RUNNING:
            return 0.05  # ends as soon as the last child is reaped
        now = time.monotonic()
        deadlines = [self._drain.deadline, self._liveness.deadline, self._service.deadline]
        deadlines += [child.wake_at for child in self._roster]
        nearest = min((at for at in deadlines if at is not None), default=now + _MAX_POLL_S)
        return max(0.0, min(nearest - now, _MAX_POLL_S))

    # --- what a child needs (children.Owner) -----------------------------------------

    def boot(self, name: ChildName, control_fd: int) -> tuple[ChildBoot, RunChild]:
        """Called in the fork: what the new child gets, and its function."""
        boot = ChildBoot(
            name=name,
            config=self._configuration.now,
            link_fds={"supervisor": control_fd, **self._links.fds_of(name)},
            listen_fd=self._listener.fileno() if name == ChildName.WEB else None,
        )
        return boot, self._table[name]

    def spawned(self, child: Child) -> None:
        if child.control is None:
            return
        asyncore.socket_map[child.control.fileno()] = child.control
        self._liveness.started(child.name, time.monotonic())
        child.tell(self._drain.state)

    def said(self, child: Child, envelope: Envelope) -> None:
        """One control message."""
        body, now = envelope.body, time.monotonic()
        match body:
            case link.Pong():
                self._liveness.pong(child.name, body.number, now)
            case link.Hello():
                self._roster.introduce(child)
            case link.ReloadRequest() if not self._drain.stopping:
                self.reload()
            case _:
                self._perform(hear(self._drain, body, now, time.time()))

    def changed(self, child: Child) -> None:
        self._roster.changed(child)
        if not self._started and all(one.ready for one in self._roster):
            self._started = True
            settings = self._configuration.now.settings
            port = self._listener.getsockname()[1]
            fields = {
                "port": port,
                "host": settings.host,
                "role": settings.role,
                "coordinatorUrls": [shown_url(url) for url in settings.coordinator_urls],
                "instanceId": settings.instance_id,
            }
            _log.info(f"Worker started on port {port}", extra=fields)

    def died(self, child: Child, control_fd: int | None) -> None:
        self._liveness.gone(child.name)
        if control_fd is not None and control_fd >= 0:
            self.options.poller.forget(control_fd)
            asyncore.socket_map.pop(control_fd, None)
        self._perform(self._drain.left(child.name, time.monotonic()))

    def gave_up(self, child: Child, reason: str, configuration: bool) -> None:
        _log.error("Child gave up", extra={"child": str(child.name), "reason": reason})
        code = EXIT_CONFIG if configuration else 1
        why = f"{child.name}: {reason}"
        self._perform(self._drain.fail(code, why, time.monotonic()))

    # --- performing ------------------------------------------------------------------

    def _make_child(self, config: ChildConfig) -> Child:
        child = Child(config, self)
        self._roster.add(child)
        return child

    def _perform(self, actions: list[drain.Action]) -> None:
        for action in actions:
            match action:
                case drain.Say():
                    getattr(_log, action.level)(action.message, extra=action.fields)
                case drain.Publish():
                    if action.state.stopping:
                        self._service.stopping()
                    self._roster.tell_all(action.state)
                case drain.Cut():
                    self._roster.tell((ChildName.POOL,), link.DrainCut(reason=action.reason))
                case drain.AskLeave():
                    self._ask_to_leave(self._roster[action.name], action)
                case drain.KillAll():
                    self._roster.kill_all()
                case drain.Exit():
                    self._exit_code = action.code
                    self.options.mood = SupervisorStates.SHUTDOWN
                    self._signals.wake()

    def _ask_to_leave(self, child: Child, ask: drain.AskLeave) -> None:
        child.leave(ask.within_s, handover=ask.handover)
        if not child.alive:
            self._perform(self._drain.left(child.name, time.monotonic()))

    def _close(self) -> None:
        if self._rpc is not None:
            rpc.close_server(self._rpc, self._configuration.now.settings.runtime_dir)
        asyncore.socket_map.pop(self._signals.fileno(), None)
        self._links.close()
