"""Log lines that a slow link costs in mode ``drop`` (agent spec 1.9). Pure."""

from collections.abc import Iterator


class Dropping:
    """Owns: how many lines of each step were dropped since its last chunk."""

    def __init__(self) -> None:
        self._n_dropped: dict[int, int] = {}

    def drop(self, step_index: int, n_lines: int) -> None:
        self._n_dropped[step_index] = self._n_dropped.get(step_index, 0) + n_lines

    def marker(self, step_index: int) -> tuple[str, ...]:
        """The line that the step's next chunk begins with; empty when nothing was dropped."""
        n_dropped = self._n_dropped.pop(step_index, 0)
        return (f"[{n_dropped} lines dropped due to backpressure]",) if n_dropped else ()

    def rest(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        """At the job's end: each step whose count was not said, with its marker."""
        for step_index in sorted(self._n_dropped):
            yield step_index, self.marker(step_index)
