"""Counts since this web process started, for ``/metrics``: what the projection forgets.

Counters that start again at zero are what Prometheus expects after a restart.
"""

from collections import Counter, OrderedDict
from collections.abc import Sequence

from kici.contracts.link import Message
from kici.contracts.link.lifecycle import ReloadResult
from kici.contracts.link.views import AgentView, DeclineView
from kici.web.history import Entry

#: The reference's buckets (worker surface 6.2), seconds.
EXECUTION_BUCKETS = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
WAIT_BUCKETS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
#: Agents being started that are remembered for their spawn time.
MAX_STARTING = 1000

#: Words in a refusal -> what the metric calls it; free text would be unbounded.
_REASONS = (
    ("drain", "draining"),
    ("disk: ", "guard"),
    ("inodes: ", "guard"),
    ("memory: ", "guard"),
    ("temperature: ", "guard"),
    ("no matching agent available: ", "unhealthy"),
    ("no matching agent", "labels"),
    ("label", "labels"),
    ("capacity", "capacity"),
    ("queue", "capacity"),
    ("slot", "capacity"),
    ("health", "unhealthy"),
    ("spawn", "unhealthy"),
)


class Histogram:
    """Cumulative buckets, count and sum of one measure."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        index = next((i for i, bound in enumerate(self.bounds) if value <= bound), -1)
        self.counts[index] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, int]]:
        """``(upper bound, how many at or below)``, ending with ``+Inf``."""
        running, result = 0, []
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            running += count
            result.append((str(bound), running))
        return result


def refusal_kind(reason: str) -> str:
    lowered = reason.lower()
    return next((kind for word, kind in _REASONS if word in lowered), "other")


class Tally:
    """Owns: the counts. Told by: ``main`` with every message that the projection took."""

    def __init__(self) -> None:
        self.executions: Counter[str] = Counter()
        self.steps: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.n_log_lines = 0
        self.execution_s = Histogram(EXECUTION_BUCKETS)
        self.queue_s = Histogram(WAIT_BUCKETS)
        self.spawn_s = Histogram(WAIT_BUCKETS)
        self.n_spawn_failures: Counter[str] = Counter()
        self.reloads: Counter[str] = Counter()
        self._reloaded_at: float | None = None
        self._starting: OrderedDict[str, float] = OrderedDict()

    def take(self, body: Message) -> None:
        if isinstance(body, DeclineView):
            self.refusals[refusal_kind(body.reason)] += 1
        elif isinstance(body, AgentView):
            self._agent(body)
        elif isinstance(body, ReloadResult):
            self._reload(body)

    def ended(self, entry: Entry, *, started: bool) -> None:
        """A job's end, once each; one that never ``started`` neither waited for that nor ran."""
        self.executions[entry.status] += 1
        self.steps.update(step.state for step in entry.steps)
        self.n_log_lines += entry.n_log_lines
        if started:
            self.execution_s.observe(entry.duration_ms / 1000)
            self.queue_s.observe(max(0.0, entry.started_at - entry.accepted_at))

    def _reload(self, result: ReloadResult) -> None:
        if result.at != self._reloaded_at:  # it is told again with each snapshot
            self._reloaded_at = result.at
            self.reloads.update(("attempted", "success" if result.ok else "failed"))

    def _agent(self, agent: AgentView) -> None:
        if agent.state in ("requested", "starting"):
            self._starting.setdefault(agent.agent_id, agent.since)
            while len(self._starting) > MAX_STARTING:
                self._starting.popitem(last=False)
            return
        asked_at = self._starting.pop(agent.agent_id, None)
        if asked_at is None:
            return
        if agent.state == "gone":
            self.n_spawn_failures[agent.scaler_name or "unknown"] += 1
        else:
            self.spawn_s.observe(max(0.0, agent.since - asked_at))
