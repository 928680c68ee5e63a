"""When another agent may be started, and of which kind (scaler spec 2.3-2.6, 2.11).

Reservations are the rows of the agent registry themselves: from the request until the
backend says that nothing is left. So usage can neither drift nor become negative.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from kici.config.model import LabelSet, ResourceCap, ResourceSpec, Scaler, ScalerConfig
from kici.contracts.states import AgentState
from kici.pool.agents import Agent, Registry
from kici.protocol.labels import Requirements, SetOffer, canonical_set, match_scaler, serves

#: Pause after a failed start, doubling with each failure in a row (scaler spec 2.11, R).
BACKOFF_FIRST_S = 5.0
BACKOFF_MAX_S = 300.0
#: Failures in a row after which a label set counts as broken: offers that only it could
#: serve are refused, and one start at a time tries it again.
BREAKER_FAILURES = 5
#: Agents of one scaler that may be on their way at once (scaler spec 2.17).
MAX_CONCURRENT_SPAWNS = 8
#: After a start a backend is asked what exists. Until it answers nothing of it is started,
#: or there would be more agents than allowed; one that does not answer is not waited for.
SEEK_S = 30.0

ON_THE_WAY = frozenset({AgentState.REQUESTED, AgentState.STARTING})


@dataclass(slots=True)
class Trouble:
    """Failed starts in a row of one label set."""

    n_failures: int = 0
    retry_at: float = 0.0
    reason: str = ""


class Target(msgspec.Struct, frozen=True):
    """One label set of one scaler."""

    scaler: Scaler
    index: int

    @property
    def label_set(self) -> LabelSet:
        return self.scaler.label_sets[self.index]

    @property
    def key(self) -> tuple[str, int]:
        return self.scaler.name, self.index


class Scaling:
    """Owns: start failures per label set, health per backend. Told by: the core."""

    def __init__(self, config: ScalerConfig, registry: Registry) -> None:
        self._registry = registry
        self._troubles: dict[tuple[str, int], Trouble] = {}
        self._health: dict[str, str] = {}
        self._seeking: dict[str, float] = {}
        #: Backends that may have agents of which nobody told us; "" stands for unknown ones.
        self._unsure: set[str] = set()
        self._asked = False
        self.configure(config)

    def configure(self, config: ScalerConfig) -> None:
        """Take a new configuration; failures of changed scalers are forgotten."""
        self.config = config
        self._targets = {
            (scaler.name, index): Target(scaler, index)
            for scaler in config.scalers
            for index in range(len(scaler.label_sets))
        }
        order = {scaler.name: number for number, scaler in enumerate(config.scalers)}
        self._offers = [
            SetOffer(
                scaler=order[target.scaler.name],
                label_set=target.index,
                labels=canonical_set(target.label_set.enriched),
                gate=gate_of(target),
            )
            for target in self._targets.values()
            if target.scaler.unsupported is None
        ]
        self._troubles.clear()

    def scaler(self, name: str | None) -> Scaler | None:
        return next((one for one in self.config.scalers if one.name == name), None)

    def target(self, name: str | None, index: int) -> Target | None:
        return self._targets.get((name or "", index))

    def made_from(self, name: str, labels: Sequence[str]) -> Target | None:
        """The label set of scaler ``name`` that is written with ``labels``."""
        wanted = canonical_set(labels)
        for target in self._targets.values():
            if target.scaler.name == name and canonical_set(target.label_set.labels) == wanted:
                return target
        return None

    def targets(self) -> Iterable[Target]:
        return self._targets.values()

    def match(self, need: Requirements, without: Collection[tuple[str, int]] = ()) -> Target | None:
        """The label set for a job; exclusions count for the empty request too, because an
        agent that the job excludes would never get it. Those of ``without`` do not count."""
        offer = match_scaler(
            self._offers,
            need.labels,
            need.excluded,
            accept=lambda offer: (
                serves(need, offer.labels, offer.gate)
                and not (without and self._of(offer).key in without)
            ),
        )
        return None if offer is None else self._of(offer)

    def _of(self, offer: SetOffer) -> Target:
        return self._targets[self.config.scalers[offer.scaler].name, offer.label_set]

    def best(self, need: Requirements, usable: Callable[[Target], bool]) -> Target | None:
        """The best match that is ``usable``; when none is, the best of all (S49, R)."""
        target = best = self.match(need)
        tried: set[tuple[str, int]] = set()
        while target is not None:
            if usable(target):
                return target
            tried.add(target.key)
            target = self.match(need, tried)
        return best

    def seek(self, scalers: Iterable[str], now: float, *, complete: bool = True) -> None:
        """These backends are asked what exists."""
        self._asked = True
        self._seeking.update(dict.fromkeys(scalers, now + SEEK_S))
        if not complete:
            self._unsure.add("")

    def sought(self, scaler: str, *, certain: bool = True) -> None:
        """It has answered; not ``certain``: that it does not know."""
        self._seeking.pop(scaler, None)
        (self._unsure.discard if certain else self._unsure.add)(scaler)

    @property
    def all_found(self) -> bool:
        """Every agent of ours that exists is known: each backend has said so."""
        return self._asked and not self._seeking and not self._unsure

    def health_changed(self, scaler: str, reason: str) -> None:
        self._health[scaler] = reason

    def health(self, scaler: Scaler) -> str:
        return scaler.unsupported or self._health.get(scaler.name, "")

    def broken(self, target: Target) -> str:
        """Why nobody should wait for this label set; empty when one may."""
        trouble = self._troubles.get(target.key)
        if trouble is not None and trouble.n_failures >= BREAKER_FAILURES:
            return trouble.reason or "agents do not start"
        return self.health(target.scaler)

    def quarantined(self) -> list[Target]:
        """Label sets whose last agents all died in set-up."""
        return [target for target in self._targets.values() if self._half_open(target)]

    def failed(self, key: tuple[str, int], reason: str, now: float) -> None:
        trouble = self._troubles.setdefault(key, Trouble())
        trouble.n_failures += 1
        pause = BACKOFF_FIRST_S * 2 ** min(trouble.n_failures - 1, 10)
        trouble.retry_at = now + min(pause, BACKOFF_MAX_S)
        trouble.reason = reason

    def rest(self, key: tuple[str, int], now: float) -> None:
        """No room outside our own caps: ask again later, without blaming anybody."""
        trouble = self._troubles.setdefault(key, Trouble())
        trouble.retry_at = max(trouble.retry_at, now + BACKOFF_FIRST_S)

    def succeeded(self, key: tuple[str, int]) -> None:
        self._troubles.pop(key, None)

    def retry_at(self, target: Target, now: float) -> float:
        """Moment from which a start may be tried; ``now`` or earlier: at once."""
        trouble = self._troubles.get(target.key)
        return trouble.retry_at if trouble is not None else now

    def retries(self, now: float) -> list[float]:
        moments = [trouble.retry_at for trouble in self._troubles.values()]
        return [at for at in (*moments, *self._seeking.values()) if at > now]

    def obstacle(self, target: Target, requests: ResourceSpec, now: float) -> str:
        """Why no agent can be started right now; empty when one can (2.4 step 4, 2.6)."""
        name = target.scaler.name
        mine = self._registry.of_scaler(name)
        made = [agent for agent in self._registry if agent.scaler is not None]
        if reason := self.health(target.scaler):
            return reason
        if self._seeking.get(name, now) > now:
            return "looking for agents of an earlier start"
        if self.retry_at(target, now) > now:
            return "waiting after a failed start"
        if len(made) >= self.config.global_max_agents:
            return f"globalMaxAgents {self.config.global_max_agents} reached"
        if len(mine) >= target.scaler.max_agents:
            return f"maxAgents {target.scaler.max_agents} of {name} reached"
        on_the_way = [agent for agent in mine if agent.state in ON_THE_WAY]
        if len(on_the_way) >= MAX_CONCURRENT_SPAWNS:
            return f"{MAX_CONCURRENT_SPAWNS} agents of {name} are already starting"
        if self._half_open(target) and any(agent.label_set == target.index for agent in on_the_way):
            return "one start at a time after repeated failures"
        return _over(f"resourceCap of {name}", target.scaler.resource_cap, mine, requests) or _over(
            "globalResourceCap", self.config.global_resource_cap, made, requests
        )

    def _half_open(self, target: Target) -> bool:
        trouble = self._troubles.get(target.key)
        return trouble is not None and trouble.n_failures >= BREAKER_FAILURES


def gate_of(target: Target) -> frozenset[str]:
    return canonical_set(target.label_set.gate) | canonical_set(target.scaler.mandatory_labels)


def _over(name: str, cap: ResourceCap | None, agents: list[Agent], requests: ResourceSpec) -> str:
    """Which limit would be exceeded; equality is allowed, undeclared consumes nothing."""
    if cap is None:
        return ""
    cpus = sum(agent.requests.cpus for agent in agents) + requests.cpus
    memory = sum(agent.requests.memory_bytes for agent in agents) + requests.memory_bytes
    # Sums of decimal fractions are not exact: 0.1 + 0.2 must fit 0.3.
    if requests.cpus and cap.max_cpu and cpus > cap.max_cpu + 1e-9:
        return f"{name}: {cpus:g} of {cap.max_cpu:g} CPUs"
    if requests.memory_bytes and cap.max_memory_bytes and memory > cap.max_memory_bytes:
        return f"{name}: {memory} of {cap.max_memory_bytes} bytes of memory"
    return ""
