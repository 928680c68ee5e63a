"""The faults of a schedule: drawn once from the seed, so that some can be left out later."""

import random
from typing import Any

import msgspec

#: Virtual seconds in which faults happen.
CHAOS_S = 120.0


class Fault(msgspec.Struct, frozen=True):
    """``kind`` at virtual second ``at``; ``a``, ``b`` are numbers in [0, 1) that it uses."""

    at: float
    kind: str
    a: float
    b: float
    duration: float

    @property
    def lasts(self) -> float:
        """Half-open links are cut after their time-outs had their chance."""
        return max(self.duration, 130.0) if self.kind.startswith("half") else self.duration


KINDS = {
    "submit": 12, "cancel": 3, "kill peer": 3, "kill pool": 3, "kill worker": 2,
    "kill coordinator": 3, "kill agent": 2, "cut peer link": 4, "cut agent link": 3,
    "half-open peer link": 2, "half-open agent link": 2, "slow peer link": 2,
    "slow agent link": 1, "close peer link": 3, "close agent link": 2, "outbox full": 2,
    "spool full": 2, "database full": 1, "clock jump": 2, "pause peer": 2, "pause pool": 2,
    "pause coordinator": 2, "pause agent": 2, "drain": 2, "drain cut": 1,
    "duplicate reroute": 3, "spawn failures": 2, "unreachable coordinator": 2,
}  # fmt: skip
CODES = (1000, 1001, 1006, 1011, 1013, 4001, 4002, 4003, 4004, 4005, 4020)
AGENT_CODES = (1000, 1001, 1006, 1011, 4002, 4003, 4004, 4012, 4031)


def draw(seed: int) -> list[Fault]:
    """The schedule of ``seed``: at least one job early, then anything."""
    rng = random.Random(seed * 7919 + 1)
    kinds, weights = list(KINDS), list(KINDS.values())
    n = rng.choice((6, 12, 20, 30))
    faults = [Fault(2.0, "submit", rng.random(), rng.random(), 0.0)]
    for kind in rng.choices(kinds, weights, k=n):
        at = round(rng.uniform(0.0, CHAOS_S if rng.random() < 0.5 else 30.0), 3)
        duration = rng.choice((0.5, 3.0, 20.0, 70.0, 150.0))
        faults.append(Fault(at, kind, rng.random(), rng.random(), duration))
    return sorted(faults, key=lambda fault: fault.at)


def apply(world: Any, fault: Fault) -> None:
    """Do it now; it undoes itself after its duration."""
    world.history.fault(fault.kind)
    world.say(f"{fault.kind} a={fault.a:.2f} b={fault.b:.2f} for {fault.duration:g} s")
    later = world.loop.later
    coordinator = _pick(world.coordinators, fault.a)
    verb, _, rest = fault.kind.partition(" ")
    if fault.kind == "submit":
        _submit(world, coordinator, fault)
    elif fault.kind == "cancel":
        if world.jobs:
            world.cancel(_pick(list(world.jobs), fault.b), fault.a < 0.3)
    elif verb == "kill":
        _kill(world, rest, coordinator, fault)
    elif rest.endswith("link"):
        _link(world, verb, rest, coordinator, fault)
    elif fault.kind.endswith(" full"):
        place = rest and verb
        world.trouble.rates[place] = 1.0 if fault.a < 0.7 else 0.5
        later(fault.duration, None, world.trouble.rates.__setitem__, place, 0.0)
    elif fault.kind == "clock jump":
        world.loop.wall_jump += (fault.a - 0.5) * (7200 if fault.b < 0.7 else 4 * 86400)
    elif verb == "pause":
        _pause(world, rest, coordinator, fault)
    elif fault.kind == "drain":
        world.set_drain(True)
        later(fault.duration, None, world.set_drain, False)
    elif fault.kind == "drain cut":
        world.set_drain(True)
        later(fault.duration, None, world.cut_drain)
        later(fault.duration + 5, None, world.set_drain, False)
    elif fault.kind == "duplicate reroute":
        _duplicate(world, coordinator, fault)
    elif fault.kind == "spawn failures":
        world.spawn_failures = 0.3 + fault.a / 2
        later(fault.duration, None, setattr, world, "spawn_failures", 0.0)
    elif fault.kind == "unreachable coordinator":
        coordinator.reachable = False
        for wire in coordinator.wires:
            wire.silent = True
        later(fault.duration, None, setattr, coordinator, "reachable", True)


def _pick(items: list[Any], number: float) -> Any:
    return items[int(number * len(items))]


def _submit(world: Any, coordinator: Any, fault: Fault) -> None:
    runs = [f"run-{number}" for number in range(2)]
    for _ in range(1 + int(fault.b * 3)):
        world.submit(coordinator, _pick(runs, fault.b) if fault.b < 0.5 else None)


def _kill(world: Any, what: str, coordinator: Any, fault: Fault) -> None:
    again = world.loop.later
    if what in ("peer", "pool"):
        world.kill_child(what)
    elif what == "worker":
        down = fault.duration if fault.b < 0.5 else 1.0
        for name in ("peer", "pool"):
            world.kill_child(name, down)
        for kernel in world.kernels.values():
            kernel.queue.clear()  # the supervisor held the links
    elif what == "coordinator":
        if coordinator.up:
            coordinator.kill()
            again(fault.duration, None, _start, coordinator)
    elif world.agents:
        world.kill_agent(_pick(sorted(world.agents), fault.b))


def _start(coordinator: Any) -> None:
    if not coordinator.up:
        coordinator.start()


def _link(world: Any, verb: str, rest: str, coordinator: Any, fault: Fault) -> None:
    of_peer = "peer" in rest
    wires = [wire for wire in coordinator.wires if not wire.over] if of_peer else []
    if not of_peer:
        wires = [world.agent_wires[name] for name in sorted(world.agent_wires)]
    if not wires:
        return
    wire = wires[-1] if of_peer else _pick(wires, fault.b)
    if verb == "cut":
        wire.cut(one_sided=fault.b < 0.3)
    elif verb == "half-open":
        wire.silent = True
        world.loop.later(fault.lasts, None, wire.cut)
    elif verb == "slow":
        wire.latency = 0.1 + fault.b * 8
        world.loop.later(fault.duration, None, setattr, wire, "latency", 0.002)
    else:
        wire.close(_pick(list(CODES if of_peer else AGENT_CODES), fault.b), "chaos")


def _pause(world: Any, what: str, coordinator: Any, fault: Fault) -> None:
    if what == "agent":
        if not world.agents:
            return
        process = world.agents[_pick(sorted(world.agents), fault.b)].process
    elif what == "coordinator":
        process = coordinator.process
    else:
        shell = world.shells.get(what)
        if shell is None:
            return
        process = shell.process
    if process.alive:
        process.paused = True
        world.loop.later(fault.duration, None, world.loop.resume, process)


def _duplicate(world: Any, coordinator: Any, fault: Fault) -> None:
    """The coordinator says a reroute again that the worker has."""
    service = coordinator.service
    if not coordinator.up or service is None or coordinator.process.paused:
        return
    placement = service.dispatcher.placement
    held = [job for job in placement.jobs.values() if job.holder is not None]
    if not held:
        return
    job = _pick(held, fault.b)
    from kici.coordinator.reroute import for_send

    before, world.loop.current = world.loop.current, coordinator.process
    try:
        message = for_send(job.reroute, f"again-{world.now}", (coordinator.name,))
        service.registry.say(job.holder, message)
    finally:
        world.loop.current = before
