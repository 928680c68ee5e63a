"""``/metrics``: names and meanings of worker surface 6.2, ours as ``kici_worker_*``.

A collector of our own over the projection: nothing is counted twice, nothing costs while
nobody scrapes. prometheus_client (57 ms, 0.8 MB) is imported at the first scrape only.
"""

from collections.abc import Iterator
from typing import Any

from kici.web.counters import counters
from kici.web.desk import Desk
from kici.web.gauges import gauges
from kici.web.metric_rows import Rows


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


def histograms(desk: Desk) -> Iterator[tuple[str, str, Any]]:
    tally = desk.tally
    yield "kici_orch_execution_duration_seconds", "Duration of jobs", tally.execution_s
    yield "kici_worker_queue_seconds", "From acceptance to start", tally.queue_s
    yield "kici_worker_spawn_seconds", "From launch to registration", tally.spawn_s
