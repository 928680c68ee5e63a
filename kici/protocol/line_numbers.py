"""Which lines of a log are new, which are known, which are missing (ours; peer spec 4.11).

Agents number the lines of each step from 0. Whatever was in the hands of a process that died
is said again or lost; the numbers tell which, so each line is kept once and each gap counted.
"""

import msgspec

#: Numbers above this are no counts (JSON numbers are exact below it).
MAX_LINE_NUMBER = 2**53
#: Steps of one job whose numbers are kept; beyond it chunks are taken as they come.
MAX_STEPS = 10_000


class Fit(msgspec.Struct, frozen=True):
    """What to do with a chunk: say that ``n_missing`` lines are missing, then keep its lines
    from ``skip`` on. ``n_gone``: lines that the chunk itself stands for instead."""

    skip: int = 0
    n_missing: int = 0
    n_gone: int = 0


class LineNumbers:
    """Owns: the next number of each step of one job."""

    def __init__(self, known: dict[int, int] | None = None) -> None:
        self.next: dict[int, int] = dict(known or {})

    def fit(
        self, step: int, first_line: int | None, n_lines: int, n_covered: int | None = None
    ) -> Fit:
        """Judge a chunk and count it. Without numbers everything is new."""
        if first_line is None or not 0 <= first_line < MAX_LINE_NUMBER:
            return Fit()
        if step not in self.next and len(self.next) >= MAX_STEPS:
            return Fit()
        wanted = self.next.get(step, 0)
        covers = n_lines if n_covered is None else min(max(n_covered, 0), MAX_LINE_NUMBER)
        self.next[step] = max(wanted, first_line + covers)
        known = min(max(wanted - first_line, 0), covers)
        missing = max(first_line - wanted, 0)
        if n_covered is None:
            return Fit(skip=known, n_missing=missing)
        return Fit(skip=n_lines, n_missing=missing, n_gone=covers - known)
