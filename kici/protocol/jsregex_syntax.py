"""Reads a JavaScript regular expression into its syntax tree (see ``jsregex``)."""

from kici.protocol.jsregex_tree import (
    Alternatives,
    Anchor,
    Characters,
    Look,
    Node,
    Ranges,
    Repeat,
    Sequence,
)

#: Characters of a pattern's source; globs compiled by KiCI have fewer than 100.
MAX_SOURCE = 500
#: Groups within groups: keeps the parser's recursion small.
_MAX_DEPTH = 30
#: Largest count in ``{n,m}``.
_MAX_COUNT = 1000

_DIGITS: Ranges = ((48, 57),)
_WORD = ((48, 57), (65, 90), (95, 95), (97, 122))
_SPACE: Ranges = (
    (9, 13),
    (32, 32),
    (0xA0, 0xA0),
    (0x1680, 0x1680),
    (0x2000, 0x200A),
    (0x2028, 0x2029),
)
_SPACE += ((0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF))
_CLASSES = {"d": _DIGITS, "w": _WORD, "s": _SPACE}
_CONTROLS = {"n": 10, "r": 13, "t": 9, "v": 11, "f": 12, "0": 0}
_LINE_ENDS = ((10, 10), (13, 13), (0x2028, 0x2029))
_SYNTAX = frozenset("^$\\.*+?()[]{}|/")


def parse(source: str, *, dot_all: bool, unicode: bool) -> Node:
    """The tree of ``source``; ``ValueError`` when it is invalid or cannot be honoured."""
    if len(source) > MAX_SOURCE:
        raise ValueError(f"pattern is longer than {MAX_SOURCE} characters")
    return _Parser(source, dot_all, unicode).whole()


class _Parser:
    """Owns: the position in one source."""

    def __init__(self, source: str, dot_all: bool, unicode: bool) -> None:
        self._source = source
        self._at = 0
        self._dot_all = dot_all
        self._unicode = unicode
        self._depth = 0

    def whole(self) -> Node:
        node = self._alternatives()
        if self._at < len(self._source):
            raise ValueError(f"unmatched {self._source[self._at]!r}")
        return node

    def _peek(self) -> str:
        return self._source[self._at : self._at + 1]

    def _take(self) -> str:
        character = self._peek()
        if not character:
            raise ValueError("pattern ends too early")
        self._at += 1
        return character

    def _skip(self, text: str) -> bool:
        if self._source.startswith(text, self._at):
            self._at += len(text)
            return True
        return False

    def _alternatives(self) -> Node:
        options = [self._sequence()]
        while self._skip("|"):
            options.append(self._sequence())
        return options[0] if len(options) == 1 else Alternatives(tuple(options))

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._quantified(self._atom()))
        return Sequence(tuple(parts))

    def _quantified(self, atom: Node) -> Node:
        bounds = self._quantifier()
        if bounds is None:
            return atom
        if isinstance(atom, Anchor | Look):
            raise ValueError("nothing to repeat")
        self._skip("?")
        if self._quantifier() is not None:
            raise ValueError("nothing to repeat")
        return Repeat(atom, *bounds)

    def _quantifier(self) -> tuple[int, int | None] | None:
        for mark, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._skip(mark):
                return bounds
        if self._peek() != "{":
            return None
        end = self._source.find("}", self._at)
        low, comma, high = self._source[self._at + 1 : max(end, self._at)].partition(",")
        if not (low.isascii() and low.isdigit()) or (high and not high.isdigit()):
            raise ValueError("lone { or bad count")
        self._at = end + 1
        least = int(low)
        most = (int(high) if high else None) if comma else least
        if max(least, most or 0) > _MAX_COUNT or (most is not None and most < least):
            raise ValueError("bad count")
        return least, most

    def _atom(self) -> Node:
        character = self._take()
        if character == "(":
            return self._group()
        if character == "[":
            return self._class()
        if character == ".":
            return Characters(() if self._dot_all else _LINE_ENDS, negative=True)
        if character in "^$":
            return Anchor(character)
        if character == "\\":
            if self._peek() in ("b", "B"):
                return Anchor(self._take())
            return self._escape(in_class=False)
        if character in "*+?{" or (self._unicode and character in "]}"):
            raise ValueError(f"unexpected {character!r}")
        return _one(ord(character))

    def _group(self) -> Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ValueError("groups are nested too deeply")
        look = None
        if self._skip("?="):
            look = False
        elif self._skip("?!"):
            look = True
        elif self._skip("?<=") or self._skip("?<!"):
            raise ValueError("look-behind is not supported")
        elif self._skip("?<"):
            end = self._source.find(">", self._at)
            if not self._source[self._at : max(end, 0)].isidentifier():
                raise ValueError("bad group name")
            self._at = end + 1
        elif not self._skip("?:") and self._peek() == "?":
            raise ValueError("unknown kind of group")
        inner = self._alternatives()
        if not self._skip(")"):
            raise ValueError("unterminated group")
        self._depth -= 1
        return inner if look is None else Look(inner, look)

    def _class(self) -> Node:
        negative = self._skip("^")
        ranges: list[tuple[int, int]] = []
        without: list[Ranges] = []
        while not self._skip("]"):
            low = self._class_member()
            code = _single(low)
            if code is not None and self._peek() == "-" and self._source[self._at + 1 :][:1] != "]":
                self._take()
                high = _single(self._class_member())
                if high is None or high < code:
                    raise ValueError("range out of order in class")
                ranges.append((code, high))
            elif low.negative:
                without.append(low.ranges)
            else:
                ranges.extend(low.ranges)
        return Characters(tuple(ranges), negative, tuple(without))

    def _class_member(self) -> Characters:
        character = self._take()
        if character != "\\":
            return _one(ord(character))
        if self._skip("b"):
            return _one(8)
        return self._escape(in_class=True)

    def _escape(self, *, in_class: bool) -> Characters:
        character = self._take()
        if character.lower() in _CLASSES:
            return Characters(_CLASSES[character.lower()], negative=character.isupper())
        if character in _CONTROLS and not (character == "0" and self._peek().isdigit()):
            return _one(_CONTROLS[character])
        if character == "x":
            return _one(self._hex(2))
        if character == "u":
            return _one(self._unicode_escape())
        if character == "c" and self._peek().isascii() and self._peek().isalpha():
            return _one(ord(self._take()) % 32)
        if character in _SYNTAX or (in_class and character == "-"):
            return _one(ord(character))
        if self._unicode or character.isalnum():
            raise ValueError(f"\\{character} is not supported")
        return _one(ord(character))

    def _unicode_escape(self) -> int:
        if not self._skip("{"):
            return self._hex(4)
        end = self._source.find("}", self._at)
        return self._hex(max(end - self._at, 1), closing="}")

    def _hex(self, length: int, closing: str = "") -> int:
        text = self._source[self._at : self._at + length]
        self._at += length
        if len(text) != length or not all(c in "0123456789abcdefABCDEF" for c in text):
            raise ValueError("bad hexadecimal escape")
        if closing and not self._skip(closing):
            raise ValueError("unterminated escape")
        if int(text, 16) > 0x10FFFF:
            raise ValueError("code point out of range")
        return int(text, 16)


def _one(code: int) -> Characters:
    return Characters(((code, code),))


def _single(member: Characters) -> int | None:
    """The code of a member that is one plain character."""
    if member.negative or len(member.ranges) != 1 or member.ranges[0][0] != member.ranges[0][1]:
        return None
    return member.ranges[0][0]
