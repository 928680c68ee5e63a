"""Text for people: colours only on a terminal, tables, durations."""

import argparse
import calendar
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any

from kici.wording import duration, size

__all__ = ["clean", "duration", "paint", "progress", "seconds", "show", "size", "table", "width"]

COLOURS = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "grey": 90, "bold": 1}
_DANGEROUS = dict.fromkeys((*range(32), 127, *range(128, 160)), " ")


def use_colour() -> bool:
    """https://no-color.org, and only on a terminal."""
    return (
        sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )


def paint(text: str, colour: str) -> str:
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if use_colour() else text


def clean(text: Any) -> str:
    """Names come from repositories: no control character may reach the terminal."""
    return str(text).translate(_DANGEROUS)


def width() -> int:
    return shutil.get_terminal_size((100, 24)).columns


def seconds(iso: str) -> float:
    """Wall-clock seconds of ``2026-01-02T03:04:05.678Z``."""
    whole, _, rest = iso.rstrip("Z").partition(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{rest or 0}")


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns as wide as they need; the last one is not padded."""
    cells = [list(head), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(widths[i]) for i, cell in enumerate(row)).rstrip() for row in cells
    ]
    lines[0] = paint(lines[0], "grey")
    return "\n".join(lines)


def show(args: argparse.Namespace, data: Any, text: str) -> None:
    """``data`` as JSON with --json, else ``text``."""
    print(json.dumps(data, ensure_ascii=False) if args.json else text)


def progress(text: str) -> None:
    """One line on stderr; overwritten on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    else:
        print(text, file=sys.stderr, flush=True)
