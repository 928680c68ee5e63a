"""JavaScript regular expressions, searched in time linear in the text (agent spec A52).

``job.reroute`` carries label patterns as JavaScript source and flags (peer spec 4.5). They
are compiled here to a Thompson automaton instead of Python's ``re``: that one backtracks,
so ``(a+)+$`` could hold the whole process for hours. All states run side by side; the cost
is at most ``MAX_STATES`` steps a character, whatever the pattern.

Understood: alternation, groups (plain, non-capturing, named), greedy and lazy quantifiers,
classes, ASCII ``\\d \\w \\s``, ``^ $ \\b \\B``, look-ahead, ``\\xHH \\uHHHH \\u{…} \\cX``.
Flags ``d g i m s u v y``; ``g`` and ``y`` hold no state between calls. Refused with
``ValueError``: back-references, look-behind, ``\\p{…}``, whatever is invalid or too large.
"""

from collections.abc import Callable, Iterable

from kici.protocol.jsregex_syntax import parse
from kici.protocol.jsregex_tree import (
    Alternatives,
    Anchor,
    Characters,
    Look,
    Node,
    Repeat,
    Sequence,
)

#: States of one automaton: with ``MAX_TEXT`` it bounds one search to a few milliseconds to
#: some 0.2 s in the worst case anybody can send.
MAX_STATES = 1000
#: Characters of a text that is searched; real labels have fewer than 100.
MAX_TEXT = 256
#: Steps of one search; only look-ahead, which is run anew at each place, can come near. A
#: search that uses them up does not match.
MAX_STEPS = 300_000
#: Results remembered per pattern: agents' labels are few and asked about again and again.
_CACHE_SIZE = 1000

_MATCH = -1
_KNOWN_FLAGS = frozenset("dgimsuvy")


class _State:
    """One place in the automaton: eats a character, tests a position, or just leads on."""

    __slots__ = ("eats", "nexts", "tests")

    def __init__(self) -> None:
        self.eats: Callable[[str], bool] | None = None
        self.tests: Callable[[str, int], bool] | None = None
        self.nexts: list[int] = []


class Regex:
    """A compiled pattern; ``search`` says whether it matches any part of a text."""

    def __init__(self, source: str, flags: str = "") -> None:
        """Raise ``ValueError`` when ``source`` or ``flags`` cannot be honoured."""
        if len(set(flags)) != len(flags) or not set(flags) <= _KNOWN_FLAGS:
            raise ValueError(f"unknown or repeated flags {flags!r}")
        self._ignore_case = "i" in flags
        self._multiline = "m" in flags
        self._sticky = "y" in flags
        self._states: list[_State] = []
        self._cache: dict[str, bool] = {}
        self._steps = 0
        tree = parse(source, dot_all="s" in flags, unicode="u" in flags or "v" in flags)
        self._start = self._build(tree, _MATCH)

    def search(self, text: str) -> bool:
        """Whether some part of ``text`` matches; texts above ``MAX_TEXT`` never do."""
        if len(text) > MAX_TEXT:
            return False
        known = self._cache.get(text)
        if known is None:
            if len(self._cache) >= _CACHE_SIZE:
                self._cache.clear()
            self._steps = 0
            found = self._run(self._start, text, 0, anchored=self._sticky)
            known = self._cache[text] = found and self._steps < MAX_STEPS
        return known

    def _run(self, start: int, text: str, begin: int, *, anchored: bool) -> bool:
        current: set[int] = set()
        for position in range(begin, len(text) + 1):
            if not anchored or position == begin:
                current.add(start)
            reached = self._close(current, text, position)
            self._steps += len(reached) + 1
            if self._steps >= MAX_STEPS:
                return False
            if _MATCH in reached:
                return True
            if position == len(text) or (anchored and not reached):
                return False
            current = self._step(reached, text[position])
        return False

    def _step(self, reached: Iterable[int], character: str) -> set[int]:
        after: set[int] = set()
        for index in reached:
            state = self._states[index]
            if state.eats is not None and state.eats(character):
                after.update(state.nexts)
        return after

    def _close(self, current: set[int], text: str, position: int) -> set[int]:
        """Every state that is reached without eating a character."""
        reached: set[int] = set()
        waiting = list(current)
        while waiting:
            index = waiting.pop()
            if index in reached:
                continue
            reached.add(index)
            if index == _MATCH:
                continue
            state = self._states[index]
            if state.eats is None and (state.tests is None or state.tests(text, position)):
                waiting.extend(state.nexts)
        return reached

    def _new(self, *nexts: int) -> int:
        if len(self._states) >= MAX_STATES:
            raise ValueError(f"pattern needs more than {MAX_STATES} states")
        state = _State()
        state.nexts = list(nexts)
        self._states.append(state)
        return len(self._states) - 1

    def _build(self, node: Node, following: int) -> int:
        """The first state of ``node``, which leads to ``following``."""
        match node:
            case Characters():
                index = self._new(following)
                self._states[index].eats = self._eater(node)
                return index
            case Sequence(parts):
                for part in reversed(parts):
                    following = self._build(part, following)
                return following
            case Alternatives(options):
                return self._new(*[self._build(option, following) for option in options])
            case Repeat():
                return self._build_repeat(node, following)
            case Anchor(kind):
                index = self._new(following)
                self._states[index].tests = self._anchor(kind)
                return index
            case Look(inner, negative):
                inside = self._build(inner, _MATCH)
                index = self._new(following)
                self._states[index].tests = lambda text, position: (
                    self._run(inside, text, position, anchored=True) != negative
                )
                return index
        raise ValueError("unknown construct")

    def _build_repeat(self, node: Repeat, following: int) -> int:
        if node.most is None:
            loop = self._new(following)
            self._states[loop].nexts.append(self._build(node.inner, loop))
            following = loop
        else:
            end = following
            for _ in range(node.most - node.least):
                following = self._new(end, self._build(node.inner, following))
        for _ in range(node.least):
            following = self._build(node.inner, following)
        return following

    def _eater(self, node: Characters) -> Callable[[str], bool]:
        if not self._ignore_case:
            return node.holds
        return lambda c: node.holds(c) or node.holds(c.lower()) or node.holds(c.upper())

    def _anchor(self, kind: str) -> Callable[[str, int], bool]:
        if kind == "^":
            return lambda text, at: at == 0 or (self._multiline and text[at - 1] in "\n\r")
        if kind == "$":
            # Unlike Python's, JavaScript's $ does not match before a final line feed.
            return lambda text, at: at == len(text) or (self._multiline and text[at] in "\n\r")
        wanted = kind == "b"
        return lambda text, at: _at_word_border(text, at) == wanted


def _at_word_border(text: str, at: int) -> bool:
    before = at > 0 and _is_word(text[at - 1])
    return before != (at < len(text) and _is_word(text[at]))


def _is_word(character: str) -> bool:
    return character == "_" or (character.isascii() and character.isalnum())
