"""The shell around the scaler backends: makes them, launches, reaps, asks for health."""

import logging
from collections.abc import Callable
from pathlib import Path

import gevent
import msgspec

from kici.config.model import Config, ResourceSpec, Scaler, ScalerConfig
from kici.errors import KiciError
from kici.pool.actions import LaunchAgent, ReapAgent
from kici.pool.environment import agent_environment, labels_for
from kici.pool.events import (
    AgentsFound,
    AgentsSought,
    BackendReported,
    Event,
    HealthChanged,
    LedgerRefused,
)
from kici.pool.ledger import Ledger, LedgerBroken
from kici.pool.scalers import Unsupported, make_backend
from kici.pool.scalers.base import Backend, BackendEvent, EventKind, LaunchSpec
from kici.pool.tokens import TokenIssuer

_log = logging.getLogger("kici.pool")
#: Between two looks at the backends' health.
HEALTH_EVERY_S = 30.0


class Fleet:
    """Owns: the backends. Told by: the pool's main. Tells: the core, through ``tell``."""

    def __init__(self, config: Config, issuer: TokenIssuer, tell: Callable[[Event], None]) -> None:
        self._settings = config.settings
        self._issuer = issuer
        self._tell = tell
        self._scalers: dict[str, Scaler] = {}
        self._backends: dict[str, Backend] = {}
        #: Which backend has an agent, also after a reload replaced the scaler.
        self._agents: dict[str, Backend] = {}
        self._health: dict[str, str] = {}
        self._reserving: dict[str, bool] = {}
        self._token_ttl_s = config.settings.agent_token_ttl_s
        self._ledger = Ledger(config.settings.machine_ledger_dir, config.settings.instance_id)

    def configure(self, config: ScalerConfig) -> None:
        """Make the backends of new and changed scalers, and see what they find."""
        self._pools = {pool.name: pool.cap for pool in config.machine_pools}
        state_dir = str(Path(self._settings.data_dir, "scalers"))
        new = [one for one in config.scalers if self._scalers.get(one.name) != one]
        # All of them before anything else: this event may place jobs already.
        self._tell(AgentsSought([scaler.name for scaler in new]))
        for scaler in new:
            self._scalers[scaler.name] = scaler
            self._backends.pop(scaler.name, None)
            for label_set in scaler.label_sets:
                self._issuer.know(labels_for(scaler, label_set))
            try:
                backend = make_backend(
                    scaler,
                    owner=self._settings.instance_id,
                    state_dir=state_dir,
                    report=self._report,
                )
            except Unsupported as reason:
                _log.warning("Scaler %s cannot be used: %s", scaler.name, reason)
                self._set_health(scaler.name, str(reason))
                self._tell(AgentsFound(scaler.name, []))
                continue
            self._backends[scaler.name] = backend
            gevent.spawn(self._look, scaler.name, backend)

    def set_token_ttl(self, ttl_s: float) -> None:
        self._token_ttl_s = ttl_s

    def watch_health(self) -> None:
        """Look at the backends for ever; run in a greenlet."""
        while True:
            gevent.sleep(HEALTH_EVERY_S)
            for name, backend in list(self._backends.items()):
                self._set_health(name, backend.health())

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
        if backend is not None:
            self._agents[agent_id] = backend
            self._issuer.hold(agent_id)
            backend.adopt(agent_id)

    def release(self, agent_id: str, scaler: str) -> None:
        """Nothing is left of the agent: its token and its share of the machine go."""
        self._issuer.release(agent_id)
        known = self._scalers.get(scaler)
        if known is not None and known.machine_pool is not None:
            gevent.spawn(self._ledger.release, known.machine_pool, agent_id)

    def close(self, *, keep_shares: bool = False) -> None:
        """Release the backends' own resources and (unless agents stay) our share of the
        machine; kills nothing."""
        known = {id(one): one for one in (*self._backends.values(), *self._agents.values())}
        for backend in known.values():
            backend.close()
        if not keep_shares:
            self._ledger.release_all(list(self._pools))

    def _look(self, name: str, backend: Backend) -> None:
        self._set_health(name, backend.health())
        found = [one for one in backend.found() if one.agent_id not in self._agents]
        self._tell(AgentsFound(name, found))

    def _reserve_and_launch(self, action: LaunchAgent, scaler: Scaler) -> None:
        assert scaler.machine_pool is not None
        cap = self._pools.get(scaler.machine_pool)
        refusal, broken = "", False
        try:
            if cap is None:
                raise LedgerBroken(f"machine pool {scaler.machine_pool} is not configured")
            refusal = self._ledger.reserve(
                scaler.machine_pool, cap, action.agent_id, action.requests
            )
        except LedgerBroken as error:
            refusal, broken = str(error), True
        wanted = self._reserving.pop(action.agent_id)
        if refusal:
            self._tell(LedgerRefused(action.agent_id, refusal, broken))
        elif not wanted:
            self._fail(action.agent_id, "stopped before it was started")
        else:
            self._launch(action, scaler)

    def _launch(self, action: LaunchAgent, scaler: Scaler) -> None:
        label_set = scaler.label_sets[action.label_set]
        token = None
        if self._settings.agent_auth == "token":
            labels = labels_for(scaler, label_set)
            token = self._issuer.issue(action.agent_id, labels, self._token_ttl_s)
        backend = self._backends[scaler.name]
        self._agents[action.agent_id] = backend
        spec = LaunchSpec(
            agent_id=action.agent_id,
            scaler=scaler,
            label_set=label_set,
            env=agent_environment(self._settings, scaler, label_set, action.agent_id, token),
            limits=action.limits if action.limits != ResourceSpec() else None,
            run_id=action.run_id,
            job_id=action.job_id,
            image=action.image or label_set.image,
        )
        try:
            backend.launch(spec)
        except (KiciError, OSError, ValueError, msgspec.MsgspecError) as error:
            self._fail(action.agent_id, str(error))

    def _report(self, event: BackendEvent) -> None:
        if event.kind in (EventKind.FAILED, EventKind.EXITED):
            self._agents.pop(event.agent_id, None)
        self._tell(BackendReported(event))

    def _fail(self, agent_id: str, detail: str) -> None:
        self._report(BackendEvent(agent_id=agent_id, kind=EventKind.FAILED, detail=detail))

    def _gone(self, agent_id: str) -> None:
        self._report(BackendEvent(agent_id=agent_id, kind=EventKind.EXITED, detail="gone"))

    def _set_health(self, name: str, reason: str) -> None:
        if self._health.get(name) != reason:
            self._health[name] = reason
            self._tell(HealthChanged(name, reason))
