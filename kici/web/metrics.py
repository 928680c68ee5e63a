"""``/metrics``: names and meanings of worker surface 6.2, ours as ``kici_worker_*``.

A collector of our own over the projection: nothing is counted twice, nothing costs while
nobody scrapes. prometheus_client (57 ms, 0.8 MB) is imported at the first scrape only.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kici.contracts.link.jobs import OutboxState
from kici.contracts.link.lifecycle import ChildState, ReloadResult
from kici.contracts.link.views import AgentView, PoolCapacity, SpoolState
from kici.contracts.states import ConnectionState
from kici.shell.machine_facts import machine_facts, written_bytes
from kici.web import summary
from kici.web.build import BUILD
from kici.web.desk import Desk
from kici.web.pool_metrics import pool_counters, pool_gauges

#: (name, help, label names, rows); a row is (label values, value).
Rows = Iterable[tuple[Sequence[str], float]]
Gauge = tuple[str, str, Sequence[str], Rows]


def render(desk: Desk) -> bytes:
    """The exposition text."""
    from prometheus_client.exposition import generate_latest

    class Collector:
        def collect(self) -> Iterator[Any]:
            return families(desk)

    return generate_latest(Collector())  # type: ignore[arg-type]


def families(desk: Desk) -> Iterator[Any]:
    """Every metric family, always the same names, whatever is known."""
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    for name, text, labels, rows in gauges(desk):
        yield _filled(GaugeMetricFamily(name, text, labels=labels), rows)
    for name, text, labels, rows in counters(desk):
        yield _filled(CounterMetricFamily(name, text, labels=labels), rows)
    for name, text, histogram in histograms(desk):
        family = HistogramMetricFamily(name, text)
        family.add_metric([], histogram.buckets(), histogram.total)
        yield family


def _filled(family: Any, rows: Rows) -> Any:
    for labels, value in rows:
        family.add_metric(list(labels), value)
    return family


def gauges(desk: Desk) -> Iterator[Gauge]:
    for part in (_work, _links, _scalers, pool_gauges, _storage, _processes, _machine):
        yield from part(desk, time.time())


def _work(desk: Desk, now: float) -> Iterator[Gauge]:
    capacity = desk.projection.one(PoolCapacity)
    queued = capacity.n_queued_jobs if capacity else 0
    starting = capacity.n_starting_jobs if capacity else 0
    yield _one("kici_orch_agents_active", "Agents connected", summary.agent_counts(desk)["total"])
    yield _one("kici_worker_agents_busy", "With a job", summary.agent_counts(desk)["active"])
    yield _one("kici_worker_jobs_active", "Jobs that agents hold", summary.n_active_jobs(desk))
    yield (
        "kici_orch_dispatch_queue_depth",
        "Jobs that no agent has acknowledged",
        ("status",),
        [(("pending",), queued), (("dispatched",), starting)],
    )
    yield _one("kici_orchestrator_draining", "1 while draining", summary.is_draining(desk))
    refusing = bool(capacity and capacity.refusing)
    yield _one("kici_worker_refusing", "1 while no job would be taken", refusing)
    up = capacity.guards if capacity else ()
    yield (
        "kici_worker_guard_up",
        "1 while the machine is beyond this limit and no job is taken",
        ("guard",),
        [((guard,), guard in up) for guard in ("disk", "inodes", "memory", "temperature")],
    )
    yield _one("kici_worker_start_time_seconds", "Start of the worker", desk.started_at)
    yield (
        "kici_worker_build_info",
        "Always 1",
        ("version", "commit"),
        [((BUILD["version"], BUILD["buildCommit"]), 1)],
    )
    starting_agents = [a for a in desk.projection.all(AgentView, now) if a.state == "starting"]
    yield _one("kici_worker_agents_starting", "Launched, not registered", len(starting_agents))


def _links(desk: Desk, now: float) -> Iterator[Gauge]:
    links = summary.links(desk)
    yield (
        "kici_worker_link_connected",
        "1 while joined to this coordinator",
        ("coordinator",),
        [((link.url,), link.state == ConnectionState.CONNECTED) for link in links],
    )
    yield (
        "kici_worker_link_state",
        "1 for the state the link is in",
        ("coordinator", "state"),
        [((link.url, state), link.state == state) for link in links for state in ConnectionState],
    )
    yield (
        "kici_worker_link_since_seconds",
        "When the link entered its state",
        ("coordinator",),
        [((link.url,), link.since) for link in links],
    )


def _scalers(desk: Desk, now: float) -> Iterator[Gauge]:
    capacity = desk.projection.one(PoolCapacity)
    scalers = capacity.scalers if capacity else ()
    for name, text, read in (
        ("max_agents", "Most agents at once", lambda s: s.max_agents),
        ("active_agents", "Agents now", lambda s: s.active_count),
        ("healthy", "1 while launches can work", lambda s: s.healthy),
    ):
        yield (
            f"kici_worker_scaler_{name}",
            text,
            ("scaler", "type"),
            [((scaler.name, scaler.kind), read(scaler)) for scaler in scalers],
        )


def _storage(desk: Desk, now: float) -> Iterator[Gauge]:
    outbox, spool = desk.projection.one(OutboxState), desk.projection.one(SpoolState)
    oldest_at = outbox.oldest_at if outbox else None
    yield (
        "kici_worker_outbox_records",
        "Promised jobs: open, and concluded but unconfirmed",
        ("state",),
        [
            (("open",), len(outbox.open) if outbox else 0),
            (("concluded",), outbox.n_concluded if outbox else 0),
        ],
    )
    yield _one("kici_worker_outbox_bytes", "Size of the outbox", outbox.n_bytes if outbox else 0)
    age = now - oldest_at if oldest_at else 0
    yield _one("kici_worker_outbox_oldest_age_seconds", "Age of its oldest record", age)
    yield _one("kici_worker_log_spool_bytes", "Logs that wait", spool.n_bytes if spool else 0)
    yield _one("kici_worker_streams", "Event streams that are read now", desk.feed.n_streams)
    yield _one("kici_worker_history_jobs", "Ended jobs that are remembered", len(desk.history))


def _processes(desk: Desk, now: float) -> Iterator[Gauge]:
    children = desk.projection.all(ChildState, now)
    yield (
        "kici_worker_process_up",
        "1 while the process runs",
        ("process",),
        [((child.name,), child.state.upper() == "RUNNING") for child in children],
    )
    reload = desk.projection.one(ReloadResult)
    yield _one("kici_worker_config_reload_ok", "0 after a refused reload", not reload or reload.ok)


def _machine(desk: Desk, now: float) -> Iterator[Gauge]:
    facts = machine_facts(desk.settings.data_dir)
    for name, text, value in (
        ("disk_free_bytes", "Free where the data directory is", facts.disk_free),
        ("disk_size_bytes", "Size of that file system", facts.disk_total),
        ("memory_available_bytes", "Memory for new programs", facts.memory_available),
        ("memory_size_bytes", "Memory of the machine", facts.memory_total),
        ("load1", "Load of the last minute", facts.load_1),
        ("temperature_celsius", "Hottest sensor", facts.temperature),
        ("under_voltage", "1 while the supply is too weak", facts.under_voltage),
    ):
        rows = [] if value is None else [((), float(value))]
        yield f"kici_worker_{name}", text, (), rows


def counters(desk: Desk) -> Iterator[Gauge]:
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
    yield _one("kici_worker_log_lines", "Log lines of ended jobs", tally.n_log_lines)
    lost = spool.n_lost_lines if spool else 0
    yield _one("kici_worker_log_lines_lost", "Dropped at the spool's bound", lost)
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


def _loki(desk: Desk) -> Iterator[Gauge]:
    facts = desk.shipper.facts() if desk.shipper else {}
    yield (
        "kici_worker_loki_lines",
        "Our log lines on their way to Loki, by what became of them",
        ("result",),
        [((result,), facts.get(f"{result}Lines", 0)) for result in ("sent", "dropped", "refused")],
    )
    yield _one("kici_worker_loki_retries", "Pushes that were tried again", facts.get("retries", 0))


def histograms(desk: Desk) -> Iterator[tuple[str, str, Any]]:
    tally = desk.tally
    yield "kici_orch_execution_duration_seconds", "Duration of jobs", tally.execution_s
    yield "kici_worker_queue_seconds", "From acceptance to start", tally.queue_s
    yield "kici_worker_spawn_seconds", "From launch to registration", tally.spawn_s


def _one(name: str, text: str, value: float) -> Gauge:
    return name, text, (), [((), float(value))]


def _counted(counts: Any) -> Rows:
    return [((name,), count) for name, count in sorted(counts.items())]
