"""What ``/metrics`` says of this moment (worker surface 6.2)."""

import time
from collections.abc import Iterator

from kici.contracts.link.jobs import OutboxState
from kici.contracts.link.lifecycle import ChildState, ReloadResult
from kici.contracts.link.views import AgentView, PoolCapacity, SpoolState
from kici.contracts.states import ConnectionState
from kici.shell.machine_facts import machine_facts
from kici.web import summary
from kici.web.build import BUILD
from kici.web.desk import Desk
from kici.web.metric_rows import Family, one
from kici.web.pool_metrics import pool_gauges


def gauges(desk: Desk) -> Iterator[Family]:
    for part in (_work, _links, _scalers, pool_gauges, _storage, _processes, _machine):
        yield from part(desk, time.time())


def _work(desk: Desk, now: float) -> Iterator[Family]:
    capacity = desk.projection.one(PoolCapacity)
    queued = capacity.n_queued_jobs if capacity else 0
    starting = capacity.n_starting_jobs if capacity else 0
    yield one("kici_orch_agents_active", "Agents connected", summary.agent_counts(desk)["total"])
    yield one("kici_worker_agents_busy", "With a job", summary.agent_counts(desk)["active"])
    yield one("kici_worker_jobs_active", "Jobs that agents hold", summary.n_active_jobs(desk))
    yield (
        "kici_orch_dispatch_queue_depth",
        "Jobs that no agent has acknowledged",
        ("status",),
        [(("pending",), queued), (("dispatched",), starting)],
    )
    yield one("kici_orchestrator_draining", "1 while draining", summary.is_draining(desk))
    refusing = bool(capacity and capacity.refusing)
    yield one("kici_worker_refusing", "1 while no job would be taken", refusing)
    up = capacity.guards if capacity else ()
    yield (
        "kici_worker_guard_up",
        "1 while the machine is beyond this limit and no job is taken",
        ("guard",),
        [((guard,), guard in up) for guard in ("disk", "inodes", "memory", "temperature")],
    )
    yield one("kici_worker_start_time_seconds", "Start of the worker", desk.started_at)
    yield (
        "kici_worker_build_info",
        "Always 1",
        ("version", "commit"),
        [((BUILD["version"], BUILD["buildCommit"]), 1)],
    )
    starting_agents = [a for a in desk.projection.all(AgentView, now) if a.state == "starting"]
    yield one("kici_worker_agents_starting", "Launched, not registered", len(starting_agents))


def _links(desk: Desk, now: float) -> Iterator[Family]:
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


def _scalers(desk: Desk, now: float) -> Iterator[Family]:
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


def _storage(desk: Desk, now: float) -> Iterator[Family]:
    outbox, spool = desk.projection.one(OutboxState), desk.projection.one(SpoolState)
    yield (
        "kici_worker_outbox_records",
        "Promised jobs: open, and concluded but unconfirmed",
        ("state",),
        [
            (("open",), len(outbox.open) if outbox else 0),
            (("concluded",), outbox.n_concluded if outbox else 0),
        ],
    )
    yield one("kici_worker_outbox_bytes", "Size of the outbox", outbox.n_bytes if outbox else 0)
    since = outbox.oldest_at if outbox else None
    age = now - since if since else 0
    yield one("kici_worker_outbox_oldest_age_seconds", "Age of its oldest record", age)
    since = outbox.oldest_result_at if outbox else None
    text = "How long the oldest result has waited for its coordinator"
    yield one("kici_worker_outbox_result_age_seconds", text, now - since if since else 0)
    yield one("kici_worker_log_spool_bytes", "Logs that wait", spool.n_bytes if spool else 0)
    yield one("kici_worker_streams", "Event streams that are read now", desk.feed.n_streams)
    yield one("kici_worker_history_jobs", "Ended jobs that are remembered", len(desk.history))


def _processes(desk: Desk, now: float) -> Iterator[Family]:
    children = desk.projection.all(ChildState, now)
    yield (
        "kici_worker_process_up",
        "1 while the process runs",
        ("process",),
        [((child.name,), child.state.upper() == "RUNNING") for child in children],
    )
    reload = desk.projection.one(ReloadResult)
    yield one("kici_worker_config_reload_ok", "0 after a refused reload", not reload or reload.ok)


def _machine(desk: Desk, now: float) -> Iterator[Family]:
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
