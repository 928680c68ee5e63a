"""The table of settings as ``docs/configuration.md`` has it.

The page is generated from ``kici/config/settings.py`` and held to it by a test; reading it
instead needs none of the package's dependencies at build time.
"""

import re
from collections.abc import Iterator
from pathlib import Path

_PAGE = Path(__file__).resolve().parent.parent / "docs/configuration.md"
Row = tuple[str, str, str, str]


def rows() -> Iterator[tuple[str, list[Row]]]:
    """Each section's title and its variables: name, accepts, default, meaning."""
    title, found = "", []
    for line in [*_PAGE.read_text(encoding="utf-8").splitlines(), "## end"]:
        if line.startswith("## "):
            if found:
                yield title, found
            title, found = line[3:], []
        elif line.startswith("| `KICI_"):
            cells = [each.strip() for each in re.split(r"(?<!\\)\|", line)[1:-1]]
            name, accepts, default, _origin, _since, about = (
                each.replace("`", "").replace("\\|", "|") for each in cells
            )
            found.append((name, accepts, "" if default == "–" else default, about))
