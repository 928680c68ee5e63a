"""The last lines of a job's log, bounded in lines and in bytes. Pure.

Lines are strangers' texts: a step may print one of a megabyte, and many of them.
"""

import sys
from collections import deque
from collections.abc import Iterator

import msgspec

from kici.contracts.link.views import JobLogTail
from kici.web.ansi import MAX_LINE_CHARS

#: What a piece costs beside its lines: its structs, its key, the deque's place.
_PER_TAIL = 400


class Piece(msgspec.Struct, frozen=True):
    """One message of the pool; ``number`` grows over all jobs while this process lives."""

    number: int
    tail: JobLogTail


class Tails:
    """Owns: pieces whose oldest go as soon as there are too many lines or bytes."""

    def __init__(self, max_lines: int, max_bytes: int) -> None:
        self.n_lines = 0
        self.n_bytes = 0
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._kept: deque[Piece] = deque()

    def __iter__(self) -> Iterator[Piece]:
        return iter(self._kept)

    def add(self, piece: Piece) -> int:
        """Take one in; how many lines went for it."""
        self._count(piece.tail, 1)
        self._kept.append(piece)
        n_gone = 0
        while self.n_lines > self._max_lines or self.n_bytes > self._max_bytes:
            oldest = self._kept.popleft().tail
            self._count(oldest, -1)
            n_gone += len(oldest.lines)
        return n_gone

    def take(self) -> list[Piece]:
        """All of them, oldest first; none is left."""
        taken = list(self._kept)
        self._kept.clear()
        self.n_lines = self.n_bytes = 0
        return taken

    def _count(self, tail: JobLogTail, sign: int) -> None:
        self.n_lines += sign * len(tail.lines)
        self.n_bytes += sign * cost(tail)


def cost(tail: JobLogTail) -> int:
    """Bytes of memory, about."""
    return _PER_TAIL + sum(map(sys.getsizeof, tail.lines))


def fitting(tail: JobLogTail, max_lines: int, max_bytes: int) -> tuple[JobLogTail, int]:
    """``tail`` with its lines shortened and its first ones left out until it fits, and how
    many these are."""
    lines: deque[str] = deque()
    left = max_bytes - _PER_TAIL
    for line in reversed(tail.lines):
        short = shortened(line)
        left -= sys.getsizeof(short)
        if left < 0 or len(lines) == max_lines:
            break
        lines.appendleft(short)
    n_gone = len(tail.lines) - len(lines)
    return msgspec.structs.replace(tail, lines=tuple(lines)), n_gone


def shortened(line: str) -> str:
    """What a terminal would show of a line in the end, cut; the coordinator has it whole."""
    if len(line) <= MAX_LINE_CHARS:
        return line
    last = line.rstrip("\r").rpartition("\r")[2]  # a progress bar
    return last if len(last) <= MAX_LINE_CHARS else last[: MAX_LINE_CHARS - 1] + "…"
