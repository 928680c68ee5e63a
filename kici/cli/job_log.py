"""Prints a job's log, live or as stored, and the summary at its end."""

import json
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from kici.cli.coordinator_client import Coordinator
from kici.cli.terminal import clean, duration, paint
from kici.cli.verbs import EXIT_FAILED, EXIT_OK, EXIT_UNREACHABLE, Failed

#: The coordinator may restart while we follow; its workers go on meanwhile.
RETRY_FOR_S = 60.0
_RETRY_EVERY_S = 1.0
_WAIT_S = 20
COLOUR_OF = {"success": "green", "failed": "red", "cancelled": "yellow", "running": "blue"}


def job_path(job_id: str) -> str:
    return f"/api/v1/jobs/{quote(job_id, safe='')}"


def show_log(coordinator: Coordinator, job_id: str, *, follow: bool, as_json: bool) -> None:
    """Print the log; with ``follow`` return when the job has ended."""
    printer = _JsonPrinter() if as_json else _TextPrinter(coordinator, job_id)
    for chunk in _chunks(coordinator, job_id, follow, printer):
        for line in chunk["lines"]:
            printer.line(chunk["step"], line)
        sys.stdout.flush()


def summary(job: dict[str, Any]) -> str:
    """Each step with its state and time, then the job."""
    lines = [
        f"  {_painted(step['state']):<9} {clean(step['name'])}  {_took(step)}".rstrip()
        for step in job["steps"]
    ]
    end = f"{_painted(job['state'])} {clean(job['name'])}  {_took(job)}".rstrip()
    holder = f" on {clean(job['holder'])}" if job["holder"] else ""
    reason = f": {clean(job['reason'])}" if job["reason"] else ""
    return "\n".join([*lines, f"{end}{holder}{reason}"])


def outcome(job: dict[str, Any]) -> int:
    """The exit code that a job's state stands for."""
    return EXIT_OK if job["state"] in ("success", "skipped") else EXIT_FAILED


def _chunks(
    coordinator: Coordinator, job_id: str, follow: bool, printer: "_JsonPrinter | _TextPrinter"
) -> Iterator[dict[str, Any]]:
    after = 0
    while True:
        wait = _WAIT_S if follow else 0
        path = f"{job_path(job_id)}/log?after={after}&wait={wait}"
        answer = _patiently(coordinator, path) if follow else coordinator.ask("GET", path)
        yield from answer["chunks"]
        after = answer["next"]
        if answer["ended"] or (not follow and not answer["chunks"]):
            return
        printer.waiting(answer["waiting"])


def _patiently(coordinator: Coordinator, path: str) -> Any:
    until = time.monotonic() + RETRY_FOR_S
    while True:
        try:
            return coordinator.ask("GET", path)
        except Failed as error:
            if error.code != EXIT_UNREACHABLE or time.monotonic() >= until:
                raise
            time.sleep(_RETRY_EVERY_S)


class _JsonPrinter:
    def line(self, step: int, line: dict[str, Any]) -> None:
        print(json.dumps({"step": step, **line}, ensure_ascii=False))

    def waiting(self, why: str | None) -> None:
        """Nothing: only lines are promised."""


class _TextPrinter:
    """A header when the step changes; the reason once while nobody takes the job."""

    def __init__(self, coordinator: Coordinator, job_id: str) -> None:
        self._coordinator = coordinator
        self._job_id = job_id
        self._step: int | None = None
        self._why: str | None = None

    def line(self, step: int, line: dict[str, Any]) -> None:
        if step != self._step:
            self._step = step
            print(paint(f"── {self._name(step)}", "bold"))
        print(line["text"])

    def waiting(self, why: str | None) -> None:
        if why and why != self._why:
            print(f"waiting: {clean(why)}", file=sys.stderr)
        self._why = why

    def _name(self, step: int) -> str:
        if step < 0:
            return "set-up"
        job = self._coordinator.ask("GET", job_path(self._job_id))
        names = {one["index"]: one["name"] for one in job["steps"]}
        return clean(names.get(step) or f"step {step + 1}")


def _took(thing: dict[str, Any]) -> str:
    if thing["startedAt"] is None or thing["finishedAt"] is None:
        return ""
    return duration((thing["finishedAt"] - thing["startedAt"]) / 1000)


def _painted(state: str) -> str:
    return paint(state, COLOUR_OF.get(state, "grey"))
