"""Reads a mapping that a user wrote, collecting every problem with its place."""

import re
from typing import Any

from kici.errors import Problem

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)")
#: A year: longer is a mistake, and JSON can say what no clock can hold.
MAX_MS = 366 * 24 * 3_600_000
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}


def _is_text(value: Any) -> bool:
    """No process takes NUL in its arguments or environment."""
    return isinstance(value, str) and "\0" not in value


class Reader:
    """One mapping at ``where`` (dotted path); problems go to the shared list."""

    def __init__(self, mapping: dict[Any, Any], where: str, problems: list[Problem]) -> None:
        self._mapping = mapping
        self._where = where
        self.problems = problems

    @classmethod
    def of(cls, value: Any, where: str, problems: list[Problem]) -> "Reader":
        if not isinstance(value, dict):
            problems.append(Problem(where, "expected a mapping"))
            value = {}
        return cls(value, where, problems)

    def wrong(self, key: str, what: str) -> None:
        where = f"{self._where}.{key}" if self._where else key
        self.problems.append(Problem(where, what))

    def only(self, known: frozenset[str]) -> None:
        for key in self._mapping:
            if key not in known:
                self.wrong(str(key), f"unknown key; known are {', '.join(sorted(known))}")

    def text(self, key: str, *, required: bool = False) -> str:
        value = self._mapping.get(key)
        if value is None or value == "":
            if required:
                self.wrong(key, "is missing")
            return ""
        if not _is_text(value):
            self.wrong(key, "expected text without NUL; put numbers in quotes")
            return ""
        return str(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; a single one may stand alone."""
        value = self._mapping.get(key)
        entries = [value] if isinstance(value, str) else self.items(key)
        good = tuple(entry for entry in entries if _is_text(entry) and entry.strip())
        if len(good) != len(entries):
            self.wrong(key, "expected texts that are not blank, without NUL")
        return good

    def items(self, key: str) -> list[Any]:
        value = self._mapping.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.wrong(key, "expected a list")
            return []
        return value

    def section(self, key: str) -> "Reader":
        value = self._mapping.get(key)
        where = f"{self._where}.{key}" if self._where else key
        return Reader.of({} if value is None else value, where, self.problems)

    def mapping_of_texts(self, key: str) -> dict[str, str]:
        value = self._mapping.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.wrong(key, "expected a mapping")
            return {}
        good = {k: v for k, v in value.items() if _is_text(k) and _is_text(v)}
        if len(good) != len(value):
            wanted = "expected texts as names and values, without NUL; put numbers in quotes"
            self.wrong(key, wanted)
        return good

    def flag(self, key: str) -> bool:
        value = self._mapping.get(key, False)
        if not isinstance(value, bool):
            self.wrong(key, "expected true or false")
            return False
        return value

    def one_of(self, key: str, options: tuple[str, ...]) -> None:
        value = self._mapping.get(key)
        if isinstance(value, str) and value and value not in options:
            self.wrong(key, f"expected one of {', '.join(options)}")

    def number(self, key: str) -> int | None:
        value = self._mapping.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_MS:
            self.wrong(key, f"expected a number from 1 to {MAX_MS}")
            return None
        return value

    def duration_ms(self, key: str) -> int | None:
        """Seconds as a number, or text such as ``90s``, ``30m``, ``2h``."""
        value = self._mapping.get(key)
        if value is None:
            return None
        ms = 0.0
        if isinstance(value, int | float) and not isinstance(value, bool):
            ms = min(value, MAX_MS) * 1000
        elif isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
            ms = float(match[1]) * _UNITS_MS[match[2]]
        if 0 < ms <= MAX_MS:
            return max(1, int(ms))
        wanted = "expected a duration such as 90s, 30m or 2h"
        self.wrong(key, f"{wanted}, at most a year" if ms > 0 else wanted)
        return None
