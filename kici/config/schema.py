"""A small schema language for the scaler files: every problem with its path, no coercion.

A checker takes a value and its path and returns the value to keep, or ``INVALID`` after
saying why in the ``Report``. An explicit null is never accepted (scaler spec 1.3).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from kici.errors import Problem

#: Integers beyond this are no integers for the reference.
MAX_SAFE_INTEGER = 2**53 - 1
#: Longest piece of a wrong value that a problem repeats.
_SHOWN_CHARS = 60


class _Invalid:
    def __bool__(self) -> bool:
        return False


INVALID: Final = _Invalid()


class Report:
    """Owns: what was found. ``files`` maps a path's root to the file that it came from."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.warnings: list[str] = []
        self._origins: dict[str, tuple[str, str]] = {}

    def origin(self, path: str, file: str, path_there: str) -> None:
        """Say that ``path`` of the merged document is ``path_there`` in ``file``."""
        self._origins[path] = (file, path_there)

    def where(self, path: str) -> str:
        for root, (file, path_there) in self._origins.items():
            if path == root or path.startswith((root + ".", root + "[")):
                return f"{file}: {path_there}{path[len(root) :]}"
        return f"{self.file}: {path}" if path else self.file

    def problem(self, path: str, what: str) -> _Invalid:
        self.problems.append(Problem(self.where(path), what))
        return INVALID

    def warn(self, path: str, what: str) -> None:
        self.warnings.append(f"{self.where(path)}: {what}")


Checker = Callable[[Any, str, Report], Any]


class Key(msgspec.Struct, frozen=True):
    """One key of an object. Without ``default`` a missing optional key stays missing."""

    check: Checker
    required: bool = False
    default: Any = INVALID


def kind(value: Any) -> str:
    """What a wrong value is, without itself: it may be a secret."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bytes):
        return "binary data"
    names = ((dict, "mapping"), (list, "list"), (bool, "boolean"), (str, "text"))
    return "a " + next((name for each, name in names if isinstance(value, each)), "number")


def shown(value: Any) -> str:
    """A wrong value as a problem shows it: its kind, and the value when it is small."""
    if not isinstance(value, str | int | float):
        return kind(value)
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    short = text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"
    return f"the {kind(value).removeprefix('a ')} {short}"


def string(value: Any, path: str, report: Report) -> Any:
    return _string(value, path, report, shown)


def _unseen(value: Any, path: str, report: Report) -> Any:
    """A text that may be a secret."""
    return _string(value, path, report, kind)


def _string(value: Any, path: str, report: Report, show: Callable[[Any], str]) -> Any:
    if isinstance(value, str):
        return value
    quote = "; quote it" if isinstance(value, int | float) else ""
    return report.problem(path, f"expected a text, found {show(value)}{quote}")


def nonempty(value: Any, path: str, report: Report) -> Any:
    if value == "":
        return report.problem(path, "expected a text, found an empty one")
    return string(value, path, report)


def boolean(value: Any, path: str, report: Report) -> Any:
    if isinstance(value, bool):
        return value
    return report.problem(path, f"expected true or false, found {shown(value)}")


def choice(*options: str) -> Checker:
    def check(value: Any, path: str, report: Report) -> Any:
        if isinstance(value, str) and value in options:
            return value
        return report.problem(path, f"expected one of {', '.join(options)}, found {shown(value)}")

    return check


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def integer(minimum: int | None = None) -> Checker:
    """A float without fraction is an integer (``4.0``, ``1e1``)."""
    bound = "" if minimum is None else f" >= {minimum}"

    def check(value: Any, path: str, report: Report) -> Any:
        if (
            is_number(value)
            and value == int(value)
            and abs(value) <= MAX_SAFE_INTEGER
            and (minimum is None or value >= minimum)
        ):
            return int(value)
        return report.problem(path, f"expected a whole number{bound}, found {shown(value)}")

    return check


def number(above: float | None = None, maximum: float | None = None) -> Checker:
    bounds = ("" if above is None else f" > {above:g}") + (
        "" if maximum is None else f" and <= {maximum:g}"
    )

    def check(value: Any, path: str, report: Report) -> Any:
        in_range = is_number(value) and not (
            (above is not None and value <= above) or (maximum is not None and value > maximum)
        )
        if in_range and not (isinstance(value, int) and abs(value) > MAX_SAFE_INTEGER):
            return float(value)
        return report.problem(path, f"expected a number{bounds}, found {shown(value)}")

    return check


def list_of(element: Checker, minimum: int = 0) -> Checker:
    def check(value: Any, path: str, report: Report) -> Any:
        if not isinstance(value, list):
            return report.problem(path, f"expected a list, found {shown(value)}")
        if len(value) < minimum:
            return report.problem(path, f"expected at least {minimum} element, found none")
        kept = [element(item, f"{path}[{index}]", report) for index, item in enumerate(value)]
        return INVALID if any(item is INVALID for item in kept) else kept

    return check


def text_map(value: Any, path: str, report: Report) -> Any:
    """Variables of an agent: a problem never shows what is in them."""
    if not isinstance(value, dict):
        return report.problem(path, f"expected a mapping of texts, found {kind(value)}")
    kept = {key: _unseen(item, f"{path}.{key}", report) for key, item in value.items()}
    return INVALID if any(item is INVALID for item in kept.values()) else kept


def mapping(keys: Mapping[str, Key], *, strict: bool) -> Checker:
    """An object with known keys; others are problems (``strict``) or warnings.

    The result has every key that was given and valid, or has a default: what is wrong in
    one key does not hide what the others say.
    """

    def check(value: Any, path: str, report: Report) -> Any:
        if not isinstance(value, dict):
            return report.problem(path, f"expected a mapping, found {shown(value)}")
        for name in value:
            if name not in keys:
                _unknown(name, keys, path, report, strict)
        return {
            name: kept
            for name, key in keys.items()
            if (kept := _key(name, key, value, path, report)) is not INVALID
        }

    return check


def _key(name: str, key: Key, value: Mapping[str, Any], path: str, report: Report) -> Any:
    place = f"{path}.{name}" if path else name
    if name in value:
        return key.check(value[name], place, report)
    if key.required:
        return report.problem(place, "required, found nothing")
    return key.default


def _unknown(name: str, keys: Mapping[str, Key], path: str, report: Report, strict: bool) -> None:
    folded = {key.lower(): key for key in keys}
    hint = folded.get(name.lower())
    near = f"; did you mean {hint}?" if hint else f"; known: {', '.join(sorted(keys))}"
    if strict:
        report.problem(path, f"unknown key {name!r}{near}")
    else:
        report.warn(path, f"unknown key {name!r} has no effect{near}")
