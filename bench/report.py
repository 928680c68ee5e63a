"""Rows of results, the table and the file."""

import json
import os
import platform
import statistics
import sys
import time
from importlib import metadata
from pathlib import Path

import msgspec

PACKAGES = ("gevent", "flask", "supervisor", "msgspec", "cryptography", "websockets")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    value: str
    unit: str = ""
    budget: str = ""
    reference: str = ""
    values: list[float] = []


class Report:
    """Owns: the rows. Each row is printed as it comes."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.notes: dict[str, str] = {}

    def add(
        self, name: str, values: list[float], unit: str, budget: str = "", reference: str = ""
    ) -> None:
        """The median; with several values also their range."""
        shown = number(statistics.median(values))
        if len(values) > 1:
            shown += f" ({number(min(values))} to {number(max(values))})"
        self._row(name, shown, unit, budget, reference, values)

    def percentiles(
        self, name: str, values: list[float], unit: str, budget: str = "", reference: str = ""
    ) -> None:
        ordered = sorted(values)
        p50, p99 = statistics.median(ordered), ordered[int(len(ordered) * 0.99) - 1]
        shown = f"{number(p50)} / {number(p99)}"
        self._row(f"{name}, p50 / p99", shown, unit, budget, reference, values)

    def note(self, name: str, text: str) -> None:
        self.notes[name] = text
        print(f"  {name}: {text}", flush=True)

    def table(self) -> str:
        lines = ["| what | measured | budget | reference |", "|---|---|---|---|"]
        for row in self.rows:
            lines.append(
                f"| {row.name} | {row.value} {row.unit} | {row.budget} | {row.reference} |"
            )
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        content = {
            "machine": machine(),
            "rows": [msgspec.to_builtins(row) for row in self.rows],
            "notes": self.notes,
        }
        path.write_text(json.dumps(content, indent=1) + "\n")

    def _row(
        self, name: str, value: str, unit: str, budget: str, reference: str, values: list[float]
    ) -> None:
        row = Row(
            name=name, value=value, unit=unit, budget=budget, reference=reference,
            values=[round(v, 4) for v in values],
        )  # fmt: skip
        self.rows.append(row)
        print(f"{name:55} {value} {unit}" + (f"   [{budget}]" if budget else ""), flush=True)


def number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}".rstrip("0").rstrip(".") if abs(value) >= 0.005 else f"{value:.2g}"


def machine() -> dict[str, object]:
    """What the numbers were measured on."""
    cpu = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    versions = {name: metadata.version(name) for name in PACKAGES}
    return {
        "at": time.strftime("%Y-%m-%d %H:%M"),
        "cpu": cpu,
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "load": [round(value, 1) for value in os.getloadavg()],
        **versions,
    }
