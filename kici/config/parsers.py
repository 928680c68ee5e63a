"""Texts of environment variables to values. Each parser raises ``ValueError(what)`` where
``what`` names what is accepted and what was found (worker-surface spec W17).

A parser gets a non-empty, untrimmed text. Parsers of secrets never repeat the text.
"""

import re
from collections.abc import Callable

from kici.config.model import Secret

Parser = Callable[[str], object]

# ASCII: other scripts' digits are numbers to Python, and to nobody else who reads the file.
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)b?", re.ASCII | re.IGNORECASE)
# What no client writes in another way (%C3%A4 for ä, without dots) and no router reads as more.
_BASE_PATH = re.compile(r"(/(?!\.{1,2}(/|$))[\w.~@:+-]+)+", re.ASCII)
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_UNIT_BYTES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
_TRUE = ("true", "1", "yes", "on")
_FALSE = ("false", "0", "no", "off")
#: Longest piece of a wrong value that an error repeats.
_SHOWN_CHARS = 60


def found(text: str) -> str:
    """How an error shows a wrong value."""
    return repr(text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…")


def text(value: str) -> str:
    return value.strip()


def verbatim(value: str) -> str:
    return value


def secret(value: str) -> Secret:
    """Surrounding blanks come from files and quoting, never from a token."""
    return Secret(value.strip())


def choice(*options: str) -> Parser:
    """One of ``options``, case-sensitive."""

    def parse(value: str) -> str:
        if value.strip() in options:
            return value.strip()
        accepted = " | ".join(options)
        raise ValueError(f"expected one of {accepted}, found {found(value)}")

    return parse


def boolean(value: str) -> bool:
    folded = value.strip().lower()
    if folded in _TRUE:
        return True
    if folded in _FALSE:
        return False
    raise ValueError(f"expected true or false, found {found(value)}")


def _number(value: str, expected: str) -> float:
    trimmed = value.strip()
    number = float(trimmed) if _NUMBER.fullmatch(trimmed) else float("inf")
    if number == float("inf"):
        raise ValueError(f"expected {expected}, found {found(value)}")
    return number


def integer(minimum: int, maximum: int) -> Callable[[str], int]:
    """A whole number in ``minimum..maximum``."""

    def parse(value: str) -> int:
        expected = f"a whole number from {minimum} to {maximum}"
        number = _number(value, expected)
        if number != int(number) or not minimum <= number <= maximum:
            raise ValueError(f"expected {expected}, found {found(value)}")
        return int(number)

    return parse


#: A day: no wait of a worker is meant to be longer when it is given in milliseconds.
_LONGEST_MS = 30 * 86_400_000


def milliseconds(minimum: float = 1) -> Parser:
    """A number of milliseconds >= ``minimum``; the result is seconds."""

    def parse(value: str) -> float:
        expected = f"a number of milliseconds >= {minimum:g}"
        number = _number(value, expected)
        if not minimum <= number <= _LONGEST_MS:
            raise ValueError(f"expected {expected}, found {found(value)}")
        return number / 1000

    return parse


def days(value: str) -> float:
    number = _number(value, "a number of days > 0")
    if number <= 0:
        raise ValueError(f"expected a number of days > 0, found {found(value)}")
    return number


def duration(minimum_s: float = 0.0) -> Parser:
    """``90``, ``90s``, ``5m``, ``1h``, ``1d``; the result is seconds."""

    def parse(value: str) -> float:
        match = _DURATION.fullmatch(value.strip())
        seconds = float(match[1]) * _UNIT_S[match[2] or "s"] if match else -1.0
        if not minimum_s <= seconds <= _LONGEST_MS / 1000:
            raise ValueError(
                f"expected a duration like 300, 90s, 5m or 1h, at least {minimum_s:g} s, "
                f"found {found(value)}"
            )
        return seconds

    return parse


def size(value: str) -> int:
    """``500m``, ``64k``, ``1g`` or plain bytes, by 1024; the result is bytes."""
    match = _SIZE.fullmatch(value.strip())
    amount = int(float(match[1]) * _UNIT_BYTES[match[2].lower()]) if match else 0
    if not 0 < amount < 2**53:
        raise ValueError(f"expected a size like 500m, 64k or 1g, found {found(value)}")
    return amount


def or_off(parse: Parser) -> Parser:
    """What ``parse`` takes, or ``off`` (also ``0``), which is 0."""

    def parse_or_off(value: str) -> object:
        return 0 if value.strip().lower() in ("off", "0") else parse(value)

    return parse_or_off


def comma_list(value: str) -> tuple[str, ...]:
    """Items are trimmed; empty ones are dropped; repetitions count once."""
    return tuple(dict.fromkeys(item.strip() for item in value.split(",") if item.strip()))


def base_path(value: str) -> str:
    """``/`` or ``/prefix`` without a slash at its end."""
    path = "/" + value.strip().strip("/")
    if path != "/" and not _BASE_PATH.fullmatch(path):
        accepted = "a path like /kici of letters, digits and ._~@:+-"
        raise ValueError(f"expected {accepted}, found {found(value)}")
    return path
