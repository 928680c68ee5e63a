"""What ``/metrics`` has counted since the start (worker surface 6.2)."""

import time
from collections.abc import Iterator
from typing import Any

from kici.contracts.link.lifecycle import ChildState
from kici.contracts.link.views import SpoolState
from kici.shell.machine_facts import written_bytes
from kici.web import summary
from kici.web.desk import Desk
from kici.web.metric_rows import Family, Rows, one
from kici.web.pool_metrics import pool_counters


def counters(desk: Desk) -> Iterator[Family]:
    tally, now = desk.tally, time.time()
    spool = desk.projection.one(SpoolState)
    children = desk.projection.all(ChildState, now)
    yield "kici_orch_executions", "Ended jobs", ("status",), _counted(tally.executions)
    yield "kici_orch_steps", "Ended steps", ("status",), _counted(tally.steps)
    yield (
        "kici_worker_refusals",
        "Jobs not taken (NAKs), by kind of reason",
        ("reason",),
        _counted(tally.refusals),
    )
    yield (
        "kici_worker_agents_lost_starting",
        "Agents that never registered",
        ("scaler",),
        _counted(tally.n_spawn_failures),
    )
    yield from pool_counters(desk)
    yield one("kici_worker_log_lines", "Log lines of ended jobs", tally.n_log_lines)
    lost = spool.n_lost_lines if spool else 0
    yield one("kici_worker_log_lines_lost", "Dropped at the spool's bound", lost)
    yield (
        "kici_worker_process_restarts",
        "Restarts by the supervisor",
        ("process",),
        [((child.name,), child.n_restarts) for child in children],
    )
    yield (
        "kici_worker_link_events",
        "What the link counted, by coordinator",
        ("coordinator", "event"),
        [
            ((link.url, event), count)
            for link in summary.links(desk)
            for event, count in sorted(link.counters.items())
        ],
    )
    yield from _loki(desk)
    written = written_bytes(child.pid for child in children if child.pid)
    yield (
        "kici_worker_disk_written_bytes",
        "Written by our processes",
        (),
        [] if written is None else [((), written)],
    )


def _loki(desk: Desk) -> Iterator[Family]:
    facts = desk.shipper.facts() if desk.shipper else {}
    yield (
        "kici_worker_loki_lines",
        "Our log lines on their way to Loki, by what became of them",
        ("result",),
        [((result,), facts.get(f"{result}Lines", 0)) for result in ("sent", "dropped", "refused")],
    )
    yield one("kici_worker_loki_retries", "Pushes that were tried again", facts.get("retries", 0))


def _counted(counts: Any) -> Rows:
    return [((name,), count) for name, count in sorted(counts.items())]
