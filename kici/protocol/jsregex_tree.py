"""The syntax tree of a JavaScript regular expression (see ``jsregex``)."""

import msgspec

Ranges = tuple[tuple[int, int], ...]


class Node(msgspec.Struct, frozen=True):
    """Part of a pattern."""


class Characters(Node, frozen=True):
    """One character inside ``ranges`` (outside when ``negative``), and maybe more classes."""

    ranges: Ranges
    negative: bool = False
    without: tuple[Ranges, ...] = ()  # "or a character outside these" (\\D in a class)

    def holds(self, character: str) -> bool:
        if len(character) != 1:
            return False
        code = ord(character)
        inside = within(self.ranges, code) or any(
            not within(ranges, code) for ranges in self.without
        )
        return inside != self.negative


class Sequence(Node, frozen=True):
    parts: tuple[Node, ...]


class Alternatives(Node, frozen=True):
    options: tuple[Node, ...]


class Repeat(Node, frozen=True):
    """``least`` to ``most`` times (None: no end). Greed does not matter to a yes or no."""

    inner: Node
    least: int
    most: int | None


class Anchor(Node, frozen=True):
    kind: str  # one of ^ $ b B


class Look(Node, frozen=True):
    """Look-ahead."""

    inner: Node
    negative: bool


def within(ranges: Ranges, code: int) -> bool:
    return any(low <= code <= high for low, high in ranges)
