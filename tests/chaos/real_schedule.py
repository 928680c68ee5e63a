"""Pure: what one seed of the real chaos run does and when. Nothing here touches a process."""

import random

import msgspec

#: Moments of one run, in seconds from its start.
FAULTS_FROM_S, FAULTS_UNTIL_S = 0.3, 6.0


class JobPlan(msgspec.Struct, frozen=True):
    """One job: ``n_lines`` numbered lines, ``pause_s`` apart, submitted at ``at``."""

    at: float
    n_lines: int
    pause_s: float
    exit_code: int


class Fault(msgspec.Struct, frozen=True):
    """``kind`` begins at ``at`` and is undone after ``lasts_s``; ``target`` and ``variant``
    mean what the kind says (``real_faults.py``)."""

    at: float
    kind: str
    target: str = ""
    lasts_s: float = 0.0
    variant: int = 0


class Plan(msgspec.Struct, frozen=True):
    seed: int
    slots: int
    jobs: tuple[JobPlan, ...]
    faults: tuple[Fault, ...]


#: kind: (weight, targets, how long it lasts)
KINDS: dict[str, tuple[int, tuple[str, ...], tuple[float, float]]] = {
    "kill": (6, ("pool", "peer", "web", "pool", "peer"), (0, 0)),
    "kill-worker": (3, ("all", "all", "supervisor"), (0, 2)),
    "stop": (3, ("pool", "peer", "web", "supervisor"), (0.3, 3)),
    "kill-agent": (1, ("",), (0, 0)),
    "stop-agent": (2, ("",), (0.3, 3)),
    "kill-coordinator": (3, ("",), (0, 4)),
    "stop-coordinator": (2, ("",), (0.3, 3)),
    "cut": (3, ("reset", "fin"), (0, 0)),
    "half-open": (3, ("heals", "reset"), (0.5, 4)),
    "slow": (1, ("",), (1, 4)),
    "refuse": (1, ("",), (0.5, 3)),
    "full-disk": (2, ("",), (0.5, 3)),
    "drain": (1, ("",), (0.3, 2)),
    "term": (1, ("",), (0, 1)),
    "cancel": (2, ("plain", "force"), (0, 0)),
}


def plan(seed: int, *, full_disk: bool = True) -> Plan:
    """The same seed gives the same plan."""
    rng = random.Random(seed)
    kinds = {k: v for k, v in KINDS.items() if full_disk or k != "full-disk"}
    jobs = tuple(
        JobPlan(
            at=round(rng.uniform(0, 2.5), 2) if index else 0.0,
            n_lines=rng.choice((5, 20, 40, 300)),
            pause_s=rng.choice((0.02, 0.05, 0.1)),
            exit_code=0 if rng.random() < 0.85 else 3,
        )
        for index in range(rng.randint(2, 4))
    )
    return Plan(
        seed=seed,
        slots=rng.randint(1, 3),
        jobs=tuple(_bounded(job) for job in jobs),
        faults=tuple(sorted(_faults(rng, kinds), key=lambda fault: fault.at)),
    )


def _bounded(job: JobPlan) -> JobPlan:
    """At most about five seconds of work."""
    pause = min(job.pause_s, 5.0 / job.n_lines)
    return msgspec.structs.replace(job, pause_s=round(pause, 3))


def _faults(rng: random.Random, kinds: dict) -> list[Fault]:
    names = list(kinds)
    weights = [kinds[name][0] for name in names]
    found = []
    for name in rng.choices(names, weights, k=rng.randint(1, 5)):
        _, targets, (shortest, longest) = kinds[name]
        found.append(
            Fault(
                at=round(rng.uniform(FAULTS_FROM_S, FAULTS_UNTIL_S), 2),
                kind=name,
                target=rng.choice(targets),
                lasts_s=round(rng.uniform(shortest, longest), 2),
                variant=rng.randrange(1000),
            )
        )
    return found
