"""What the containers of one scaler share: engine, network, images, lessons learnt."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gevent.lock import BoundedSemaphore

from kici.config.model import Scaler
from kici.pool.scalers.base import EventKind
from kici.pool.scalers.container_calls import Calls
from kici.pool.scalers.engine import DISK, TRANSPORT, Engine, EngineError, classify
from kici.pool.scalers.engine_target import PODMAN
from kici.pool.scalers.images import Images
from kici.pool.scalers.isolation import Isolation
from kici.pool.scalers.isolation_rules import GATEWAY

#: A full disk stops launches so long; then one is tried again.
_DISK_S = 60.0

Tell = Callable[[str, EventKind, str], None]


@dataclass(kw_only=True)
class Yard:
    """What all agents of one scaler share. Owns: what was learnt about the engine."""

    scaler: Scaler
    owner: str
    engine: Engine
    calls: Calls
    images: Images
    isolation: Isolation | None
    tell: Tell
    #: Whether the engine has an init process to put into containers.
    init: bool = True
    _prepared: Any = None
    _preparing: BoundedSemaphore = field(default_factory=BoundedSemaphore)
    _disk_full_until: float = field(default=0.0)
    _problem: str = ""

    def prepare(self) -> None:
        """Network and packet filter, once per connection to the engine."""
        client, target = self.engine.client(), self.engine.target
        if self.isolation is None or target is None:
            return
        with self._preparing:
            if self._prepared is client:
                return
            try:
                self.isolation.prepare(client, target.on_local_host)
            except (*TRANSPORT, EngineError) as error:
                self._problem = str(error)
                raise classify(error) from None
            self._prepared, self._problem = client, ""

    def trouble(self) -> str:
        """Why launches cannot work although the engine answers; empty when they can."""
        if time.monotonic() < self._disk_full_until:
            return "the engine's disk is full"
        return self._problem

    def learn(self, error: EngineError) -> None:
        if error.kind == DISK:
            self._disk_full_until = time.monotonic() + _DISK_S

    def sweep(self) -> None:
        if self.isolation is not None:
            self.prepare()
            self.isolation.sweep(self.calls.addresses)

    def dismiss(self, address: str) -> None:
        if self.isolation is not None:
            self.isolation.dismiss(address)

    def extra_hosts(self) -> list[str]:
        """Podman writes ``host-gateway`` down literally: put the address there."""
        hosts = list(self.scaler.extra_hosts)
        target = self.engine.target
        if target is None or target.runtime != PODMAN:
            return hosts
        if not any(host.endswith(":host-gateway") for host in hosts):
            return hosts
        gateway = GATEWAY if self.isolation is not None else self.calls.gateway("podman")
        return [re.sub(r":host-gateway$", f":{gateway}", host) for host in hosts]
