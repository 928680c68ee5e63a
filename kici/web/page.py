"""The facts of the status page, ready for the templates."""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from kici.contracts.link.lifecycle import ChildState, DrainState
from kici.contracts.link.views import (
    AgentView,
    JobView,
    PoolCapacity,
    ScalerSlots,
    SpoolState,
    StepView,
)
from kici.shell.machine_facts import machine_facts
from kici.web import summary
from kici.web.build import BUILD
from kici.web.desk import Desk
from kici.web.history import Entry
from kici.web.jobviews import running_step
from kici.web.projection import newest_first
from kici.web.readiness import why_not

#: Rows of the history table: with all else the page stays under 60 kB.
HISTORY_ROWS = 25
#: Marks of the last results at a glance.
MARKS = 20
#: Running jobs, agents and refusals that are drawn; the API has them all.
MAX_ROWS = 30
#: The shortest bar that is seen.
_MIN_BAR = 0.5


class Past(msgspec.Struct, frozen=True):
    """One row of the history: ``bar`` is 0-100; ``gap`` when records may be missing below."""

    entry: Entry
    bar: float
    gap: bool


class Group(msgspec.Struct, frozen=True):
    """The agents of one scaler; ``scaler`` None holds agents that were started by hand."""

    scaler: ScalerSlots | None
    agents: list[AgentView]


def page_facts(desk: Desk) -> dict[str, Any]:
    """Everything the templates show."""
    now = time.time()
    projection, capacity = desk.projection, desk.projection.one(PoolCapacity)
    entries = desk.history.newest(HISTORY_ROWS)
    jobs = newest_first(projection.all(JobView, now))
    links = summary.links(desk)
    return {
        "now": now,
        "desk": desk,
        "settings": desk.settings,
        "version": BUILD["version"],
        "mood": mood(desk),
        "links": links,
        "n_connected": summary.n_connected(desk),
        "drain": projection.one(DrainState),
        "draining": summary.is_draining(desk),
        "why_not": why_not(desk),
        "refusals": list(reversed(projection.refusals))[:5],
        "slots": free_slots(capacity),
        "capacity": capacity,
        "n_jobs": summary.n_active_jobs(desk),
        "jobs": [(job, running_step(job)) for job in jobs[:MAX_ROWS]],
        "n_more_jobs": max(0, len(jobs) - MAX_ROWS),
        "history": list(past(entries)),
        "marks": entries[:MARKS],
        "groups": list(groups(capacity, projection.all(AgentView, now)[:MAX_ROWS])),
        "children": projection.all(ChildState, now),
        "stale": [source.name for source in projection.sources(now) if source.is_stale],
        "spool": projection.one(SpoolState),
        "machine": machine_facts(desk.settings.data_dir),
    }


def mood(desk: Desk) -> tuple[str, str]:
    """``(class, words)`` of the one pill everybody looks at first."""
    drain = desk.projection.one(DrainState)
    if drain and drain.stopping:
        return "warn", "stopping"
    if drain and drain.draining:
        return "warn", "draining"
    n_up, n_all = summary.n_connected(desk), len(summary.urls(desk))
    if n_up == 0:
        return "bad", "disconnected"
    return ("good", "connected") if n_up == n_all else ("warn", f"{n_up} of {n_all} connected")


def free_slots(capacity: PoolCapacity | None) -> tuple[int, int]:
    """``(free, all)`` agent places of the scalers that work."""
    working = [scaler for scaler in capacity.scalers if scaler.healthy] if capacity else []
    free = sum(summary.free_slots(scaler) for scaler in working)
    return free, sum(scaler.max_agents for scaler in working)


def past(entries: list[Entry]) -> Iterator[Past]:
    """Rows newest first, with bars on one scale."""
    longest = max((entry.duration_ms for entry in entries), default=0) or 1
    for entry, older in itertools.zip_longest(entries, entries[1:]):
        bar = max(_MIN_BAR, 100 * entry.duration_ms / longest)
        yield Past(entry, round(bar, 1), older is not None and older.boot != entry.boot)


def groups(capacity: PoolCapacity | None, agents: list[AgentView]) -> Iterator[Group]:
    """Scalers in their configured order, then the agents of none."""
    known = {scaler.name for scaler in capacity.scalers} if capacity else set()
    for scaler in capacity.scalers if capacity else ():
        yield Group(scaler, [agent for agent in agents if agent.scaler_name == scaler.name])
    if others := [agent for agent in agents if agent.scaler_name not in known]:
        yield Group(None, others)


def step_text(job: JobView, step: StepView | None) -> str:
    """``step 2 of 5: make`` or what the job waits for."""
    if step is None:
        return job.state
    return f"step {step.index + 1} of {len(job.steps)}: {step.name}"
