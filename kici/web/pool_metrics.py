"""Metrics of the scaler, by the names of worker surface 6.2."""

from collections import Counter
from collections.abc import Iterator

from kici.contracts.link.views import JobView, PoolCapacity, PoolCounts
from kici.contracts.states import WAITING
from kici.web.desk import Desk
from kici.web.metric_rows import Family

#: ``scaler`` of the row that has the sum of all.
TOTAL = "__global__"
#: Labels with a row of their own; the rarest of more are left out.
MAX_LABELS = 50


def pool_gauges(desk: Desk, now: float) -> Iterator[Family]:
    capacity = desk.projection.one(PoolCapacity)
    scalers = capacity.scalers if capacity else ()
    for name, text, amounts in (
        ("cpus_used", "Cores reserved", [one.cpus_used for one in scalers]),
        ("memory_bytes_used", "Bytes reserved", [one.memory_used_bytes for one in scalers]),
    ):
        rows = [((one.name, one.kind), float(n)) for one, n in zip(scalers, amounts, strict=True)]
        total = ((TOTAL, TOTAL), float(sum(amounts)))
        yield f"kici_orch_scaler_{name}", text, ("scaler", "scalerType"), [*rows, total]
    for name, text in (
        ("target", "Unused agents that a warm pool shall have"),
        ("ready", "Unused agents that it has"),
        ("in_flight", "Unused agents on their way"),
    ):
        yield (
            f"kici_orch_scaler_warm_pool_{name}",
            text,
            ("scaler", "labelSet"),
            [
                ((one.name, pool.label_set), float(getattr(pool, name)))
                for one in scalers
                for pool in one.warm
            ],
        )
    waiting = Counter(
        label
        for job in desk.projection.all(JobView, now)
        if job.state in WAITING
        for label in job.labels
    )
    yield (
        "kici_orch_dispatch_queue_depth_by_label",
        "Waiting jobs that ask for this label",
        ("status", "label"),
        [(("pending", label), float(count)) for label, count in waiting.most_common(MAX_LABELS)],
    )


def pool_counters(desk: Desk) -> Iterator[Family]:
    found = desk.projection.one(PoolCounts)
    counts = found or PoolCounts(rev=0, n_log_chunks=0, n_log_bytes=0, n_spawn_refusals=0)
    for name, text, value in (
        ("log_chunks_received", "Log messages of agents", counts.n_log_chunks),
        ("log_bytes_stored", "Characters of log lines of agents", counts.n_log_bytes),
        ("scaler_spawn_refusals", "Offers without room for an agent", counts.n_spawn_refusals),
    ):
        yield f"kici_orch_{name}", text, (), [((), float(value))]
    yield (
        "kici_orch_scaler_spawn_failures",
        "Agents that never registered",
        ("backend", "bound"),
        [
            ((backend, "true" if bound else "false"), float(count))
            for backend, bound, count in counts.spawn_failures
        ],
    )
    for name, text, rows in (
        ("spawns", "Agents started for a warm pool", counts.warm_spawns),
        ("reaped", "Warm agents stopped because nobody needed them", counts.warm_reaped),
    ):
        yield (
            f"kici_orch_scaler_warm_pool_{name}",
            text,
            ("scaler",),
            [((scaler,), float(count)) for scaler, count in rows],
        )
    reload = desk.tally.reloads
    yield (
        "kici_orch_scaler_config_reloads",
        "Reloads of the configuration",
        ("result",),
        [((result,), float(reload[result])) for result in ("attempted", "success", "failed")],
    )
