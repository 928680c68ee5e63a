"""The shares of machine pools that our agents have (scaler spec 2.7): the ledger's shell."""

import logging
from collections.abc import Mapping, Sequence

import gevent

from kici.config.model import ResourceCap, Resources, ResourceSpec, Scaler, ScalerConfig, Settings
from kici.pool.ledger import Ledger
from kici.pool.ledger_file import LedgerBroken
from kici.pool.resources import resolve
from kici.pool.scalers.base import FoundAgent

_log = logging.getLogger("kici.pool")
#: Between two looks for machine shares of the dead.
REAP_LEDGER_EVERY_S = 30.0


class Shares:
    """Owns: which machine pool an agent has a share of. Told by: the fleet."""

    def __init__(self, settings: Settings) -> None:
        self._ledger = Ledger(settings.machine_ledger_dir, settings.instance_id)
        self._pools: dict[str, ResourceCap] = {}
        self._defaults: Resources | None = None
        self._shares: dict[str, str] = {}

    def configure(self, config: ScalerConfig) -> None:
        # Caps of pools that are gone stay known: agents may still have shares in them.
        self._pools |= {pool.name: pool.cap for pool in config.machine_pools}
        self._defaults = config.default_resources

    def reserve(self, pool: str, agent_id: str, requests: ResourceSpec) -> str:
        """Empty when the agent has its share, else why there is no room; ``LedgerBroken``."""
        cap = self._pools.get(pool)
        if cap is None:
            raise LedgerBroken(f"machine pool {pool} is not configured")
        refusal = self._ledger.reserve(pool, cap, agent_id, requests)
        if not refusal:
            self._shares[agent_id] = pool
        return refusal

    def claim(self, scaler: Scaler, pool: str, found: Sequence[FoundAgent]) -> None:
        """What outlived our former process still uses its share of the machine."""
        shares = {one.agent_id: self._requests(scaler, one) for one in found}
        self._shares |= dict.fromkeys(shares, pool)
        try:
            if shares:
                self._ledger.claim(pool, self._pools[pool], shares)
        except (LedgerBroken, KeyError) as error:
            _log.error("Shares of machine pool %s cannot be kept: %s", pool, error)

    def _requests(self, scaler: Scaler, found: FoundAgent) -> ResourceSpec:
        labels = tuple(found.label_set_labels)
        sets = [each for each in scaler.label_sets if each.labels == labels]
        return resolve(None, sets[0].resources if sets else None, self._defaults)[0]

    def release(self, agent_id: str) -> None:
        pool = self._shares.pop(agent_id, None)
        if pool is not None:
            gevent.spawn(self._ledger.release, pool, agent_id)

    def release_all(self) -> None:
        self._ledger.release_all(list(self._pools))

    def watch(self) -> None:
        """Drop the shares of dead processes, for ever; run in a greenlet."""
        while True:
            gevent.sleep(REAP_LEDGER_EVERY_S)
            self._reap(self._pools)

    def _reap(self, pools: Mapping[str, ResourceCap]) -> None:
        for pool in list(pools):
            try:
                n_dead = self._ledger.reap(pool)
            except LedgerBroken as error:
                _log.warning("Ledger cannot be reaped: %s", error)
                continue
            if n_dead:
                _log.info("Reaped %d dead reservations of machine pool %s", n_dead, pool)
