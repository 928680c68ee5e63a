"""What a check found, and how checks are run: at once, and never longer than the limit."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from kici.config.model import Config

OK, WARN, FAIL, SKIP = "ok", "warn", "fail", "skip"
#: All checks together; what is not done by then has failed. The command promises 3 s.
LIMIT_S = 2.5


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line: ``value`` is what was found, ``limit`` what is good, ``fix`` one command."""

    name: str
    outcome: str
    value: str
    limit: str = ""
    fix: str = ""


class Patient(msgspec.Struct, kw_only=True):
    """What checks look at. ``where`` says of a worker without ``status`` (its own answer; None
    when it is down) where it was asked; ``config`` is None when it has problems; ``unread``
    says why the environment file was left out, None when it was not."""

    environ: Mapping[str, str]
    where: str
    config: Config | None = None
    problems: Sequence[Any] = ()
    unread: str | None = None
    status: Any = None


Check = Callable[[Patient], Iterable[Finding]]


def ok(name: str, value: Any, limit: str = "") -> Finding:
    return Finding(name=name, outcome=OK, value=str(value), limit=limit)


def warn(name: str, value: Any, limit: str, fix: str) -> Finding:
    return Finding(name=name, outcome=WARN, value=str(value), limit=limit, fix=fix)


def fail(name: str, value: Any, limit: str, fix: str) -> Finding:
    return Finding(name=name, outcome=FAIL, value=str(value), limit=limit, fix=fix)


def skip(name: str, why: str) -> Finding:
    return Finding(name=name, outcome=SKIP, value=why)


def judged(name: str, good: bool, value: Any, limit: str, fix: str) -> Finding:
    """``ok`` or ``fail``."""
    return ok(name, value, limit) if good else fail(name, value, limit, fix)


def run_all(checks: Sequence[Check], patient: Patient, limit_s: float = LIMIT_S) -> list[Finding]:
    """Every finding in the order of ``checks``; a check that hangs or breaks is a finding."""
    results: dict[int, list[Finding]] = {}
    threads = [
        threading.Thread(target=_run, args=(index, check, patient, results), daemon=True)
        for index, check in enumerate(checks)
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + limit_s
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    late = "no result within " + f"{limit_s:g} s"
    return [
        finding
        for index, check in enumerate(checks)
        for finding in results.get(index, [fail(_name(check), late, "", "run it again")])
    ]


def _run(index: int, check: Check, patient: Patient, results: dict[int, list[Finding]]) -> None:
    try:
        results[index] = list(check(patient))
    except Exception as error:  # noqa: BLE001 - one broken check must not hide the others
        text = f"{type(error).__name__}: {error}"
        results[index] = [fail(_name(check), text, "", "report this with kici-worker debug bundle")]


def _name(check: Check) -> str:
    return check.__name__.replace("_", " ").strip()
