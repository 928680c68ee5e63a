"""The shell around the scaler backends: makes them, launches, reaps."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import gevent
import msgspec

from kici.config.model import Config, Scaler, ScalerConfig
from kici.errors import KiciError
from kici.pool.actions import LaunchAgent, ReapAgent
from kici.pool.cleaning import budget_of, keep_clean
from kici.pool.environment import labels_for
from kici.pool.events import BackendReported, Event, LedgerRefused
from kici.pool.launch_specs import LaunchSpecs
from kici.pool.ledger_file import LedgerBroken
from kici.pool.left_behind import LeftBehind
from kici.pool.lookout import Lookout
from kici.pool.scalers import Unsupported, make_backend, same_backend
from kici.pool.scalers.base import (
    Backend,
    BackendEvent,
    CannotLook,
    EventKind,
    FoundAgent,
)
from kici.pool.shares import Shares
from kici.pool.tokens import TokenIssuer

_log = logging.getLogger("kici.pool")


class Fleet:
    """Owns: the backends. Told by: the pool's main. Tells: the core, through ``tell``."""

    def __init__(self, config: Config, issuer: TokenIssuer, tell: Callable[[Event], None]) -> None:
        self._settings = config.settings
        self._issuer = issuer
        self._tell = tell
        self._config = ScalerConfig()
        self._scalers: dict[str, Scaler] = {}
        self._backends: dict[str, Backend] = {}
        #: Which backend has an agent, also after a reload replaced the scaler.
        self._agents: dict[str, Backend] = {}
        self._lookout = Lookout(self._backends, self._strangers, tell)
        self._looked_back = False
        self._reserving: dict[str, bool] = {}
        self._specs = LaunchSpecs(config.settings, issuer)
        self.shares = Shares(config.settings)
        self._state_dir = str(Path(config.settings.data_dir, "scalers"))
        self._left = LeftBehind(self._state_dir, config.settings.instance_id)

    def configure(self, config: ScalerConfig) -> None:
        """Make the backends of new and changed scalers, and see what they find."""
        self._config = config
        self.shares.configure(config)
        self._retire({scaler.name for scaler in config.scalers})
        new = {one.name: one for one in config.scalers if self._needs_backend(one)}
        self._left.configured(config.scalers)
        if not self._looked_back:
            self._looked_back = True
            new |= self._left.look_back(config.scalers)
        self._scalers |= {one.name: one for one in config.scalers} | new
        for scaler in (*config.scalers, *new.values()):
            for label_set in scaler.label_sets:
                self._issuer.know(labels_for(scaler, label_set))
        # All of them before anything else: this event may place jobs already.
        self._lookout.expect(new, complete=self._left.complete)
        for name, scaler in new.items():
            self._replace(name)
            self._make(name, scaler)

    def _make(self, name: str, scaler: Scaler) -> None:
        try:
            backend = make_backend(
                scaler,
                owner=self._settings.instance_id,
                state_dir=self._state_dir,
                report=self._report,
                held=self._agents.__contains__,
            )
        except Unsupported as reason:
            _log.warning("Scaler %s cannot be used: %s", name, reason)
            never_could = scaler.unsupported is not None
            self._lookout.unusable(name, str(reason), certain=never_could)
            return
        self._backends[name] = backend
        self._lookout.first_look(name, backend)

    def _needs_backend(self, scaler: Scaler) -> bool:
        """Limits, caps and labels are the core's business; the rest is what a backend is."""
        known = self._scalers.get(scaler.name)
        return known is None or not same_backend(known, scaler)

    def _retire(self, names: set[str]) -> None:
        """Scalers that are configured no more: their backends end with their last agent."""
        for name in set(self._scalers) - names - self._left.names:
            _log.info("Scaler %s is removed, it retires after its agents", name)
            self._drop(name)

    def _replace(self, name: str) -> None:
        backend = self._backends.pop(name, None)
        if backend is not None:
            self._close_unused(backend)

    def _close_unused(self, backend: Backend) -> None:
        """A backend that is no scaler's any more is closed after its last agent."""
        if backend not in self._backends.values() and backend not in self._agents.values():
            backend.close()

    def set_token_ttl(self, ttl_s: float) -> None:
        self._specs.token_ttl_s = ttl_s

    def watch_health(self) -> None:
        """Look at the backends for ever; run in a greenlet."""
        self._lookout.watch()

    def watch_leftovers(self) -> None:
        """Delete what is left behind, under a budget, for ever; run in a greenlet."""
        keep_clean(self._backends.values, lambda: budget_of(self._settings, self._config))

    def watch_left_behind(self) -> None:
        """Until nothing is left of scalers that are configured no more; run in a greenlet."""
        self._left.watch(self._is_left, self._drop)

    def _drop(self, name: str) -> None:
        self._replace(name)
        self._scalers.pop(name, None)
        self._lookout.forget(name)

    def _is_left(self, name: str) -> bool | None:
        """Whether agents of it exist; None when that cannot be found out."""
        backend = self._backends.get(name)
        try:
            if backend is None:
                return None
            return backend in self._agents.values() or bool(backend.found())
        except CannotLook:
            return None

    def launch(self, action: LaunchAgent) -> None:
        """Start an agent; whatever goes wrong is reported."""
        scaler = self._scalers.get(action.scaler)
        if scaler is None or scaler.name not in self._backends:
            self._fail(action.agent_id, f"scaler {action.scaler} has no backend")
        elif scaler.machine_pool is None:
            self._launch(action, scaler)
        else:
            self._reserving[action.agent_id] = True
            gevent.spawn(self._reserve_and_launch, action, scaler)

    def reap(self, action: ReapAgent) -> None:
        if action.agent_id in self._reserving:
            self._reserving[action.agent_id] = False
            return
        backend = self._agents.get(action.agent_id) or self._backends.get(action.scaler)
        if backend is None:
            self._gone(action.agent_id)
            return
        backend.reap(action.agent_id, action.grace_s)
        if action.agent_id not in self._agents:
            # It was never ours to watch (made before a restart and gone since).
            self._gone(action.agent_id)

    def adopt(self, agent_id: str, scaler: str) -> None:
        backend = self._backends.get(scaler)
        # Two scalers may see one engine, and so offer the same agent.
        if backend is not None and agent_id not in self._agents:
            self._agents[agent_id] = backend
            self._issuer.hold(agent_id)
            backend.adopt(agent_id)

    def release(self, agent_id: str, scaler: str) -> None:
        """Nothing is left of the agent: its token and its share of the machine go."""
        self._issuer.release(agent_id)
        self.shares.release(agent_id)

    def close(self, *, keep_shares: bool = False) -> None:
        """Release the backends' own resources and (unless agents stay) our share of the
        machine; kills nothing."""
        known = {id(one): one for one in (*self._backends.values(), *self._agents.values())}
        for backend in known.values():
            backend.close()
        if not keep_shares:
            self.shares.release_all()

    def _strangers(self, name: str, found: Sequence[FoundAgent]) -> Sequence[FoundAgent]:
        unknown = [one for one in found if one.agent_id not in self._agents]
        scaler = self._scalers.get(name)
        if scaler is not None and scaler.machine_pool is not None:
            self.shares.claim(scaler, scaler.machine_pool, unknown)
        return unknown

    def _reserve_and_launch(self, action: LaunchAgent, scaler: Scaler) -> None:
        assert scaler.machine_pool is not None
        refusal, broken = "", False
        try:
            refusal = self.shares.reserve(scaler.machine_pool, action.agent_id, action.requests)
        except LedgerBroken as error:
            refusal, broken = str(error), True
        # First: of an agent that it stops the core waits for the end, whatever else is said.
        if not self._reserving.pop(action.agent_id):
            self._fail(action.agent_id, "stopped before it was started")
        elif refusal:
            self._tell(LedgerRefused(action.agent_id, refusal, broken))
        else:
            self._launch(action, scaler)

    def _launch(self, action: LaunchAgent, scaler: Scaler) -> None:
        if scaler.name not in self._backends or action.label_set >= len(scaler.label_sets):
            self._fail(action.agent_id, "its label set was removed meanwhile")
            return
        backend = self._backends[scaler.name]
        self._agents[action.agent_id] = backend
        spec = self._specs.make(action, scaler)
        try:
            backend.launch(spec)
        except (KiciError, OSError, ValueError, msgspec.MsgspecError) as error:
            self._fail(action.agent_id, str(error))

    def _report(self, event: BackendEvent) -> None:
        if event.kind in (EventKind.FAILED, EventKind.EXITED):
            backend = self._agents.pop(event.agent_id, None)
            if backend is not None and backend not in self._backends.values():
                # Not from within its own call.
                gevent.spawn(self._close_unused, backend)
        self._tell(BackendReported(event))
        if event.kind is EventKind.FAILED:
            self._lookout.look_sooner()

    def _fail(self, agent_id: str, detail: str) -> None:
        self._report(BackendEvent(agent_id=agent_id, kind=EventKind.FAILED, detail=detail))

    def _gone(self, agent_id: str) -> None:
        self._report(BackendEvent(agent_id=agent_id, kind=EventKind.EXITED, detail="gone"))
