"""What the pool counts for ``/metrics`` and nobody decides from (worker surface 6.2)."""

from collections import Counter
from collections.abc import Sequence

from kici.contracts.link.views import PoolCounts


class Counts:
    """Owns: counts since the start. Told by: all parts of the core."""

    def __init__(self) -> None:
        self.n_log_chunks = 0
        self.n_log_bytes = 0
        #: Offers that found no room for another agent.
        self.n_spawn_refusals = 0
        #: (backend, whether a job waited) -> starts that failed.
        self.spawn_failures: Counter[tuple[str, bool]] = Counter()
        self.warm_spawns: Counter[str] = Counter()
        self.warm_reaped: Counter[str] = Counter()
        self.told: PoolCounts | None = None

    def log(self, lines: Sequence[str]) -> None:
        """One chunk of an agent. Characters stand for bytes here: this is the hot path."""
        self.n_log_chunks += 1
        self.n_log_bytes += sum(map(len, lines))

    def grew(self) -> bool:
        return self.told != self._view(0)

    def view(self, rev: int) -> PoolCounts:
        self.told = self._view(0)
        return self._view(rev)

    def _view(self, rev: int) -> PoolCounts:
        return PoolCounts(
            rev=rev,
            n_log_chunks=self.n_log_chunks,
            n_log_bytes=self.n_log_bytes,
            n_spawn_refusals=self.n_spawn_refusals,
            spawn_failures=tuple(
                (backend, bound, count)
                for (backend, bound), count in sorted(self.spawn_failures.items())
            ),
            warm_spawns=tuple(sorted(self.warm_spawns.items())),
            warm_reaped=tuple(sorted(self.warm_reaped.items())),
        )
