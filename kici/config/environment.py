"""The environment to values, without touching a file: parse, cross-check, collect.

The result is not yet ``Settings``: ``load.py`` adds what only files can say.
"""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

import msgspec

from kici.config.names import ADVICE, nearest, unknown_names
from kici.config.setting import Setting
from kici.config.settings import AGENT_ENV_PREFIX, DEV_VARIABLE, NAMES, SETTINGS
from kici.errors import Problem


class Reading(msgspec.Struct):
    """What was read so far: ``values`` by field, without those that are unset."""

    values: dict[str, Any]
    problems: list[Problem]
    warnings: list[str]

    def problem(self, where: str, what: str) -> None:
        self.problems.append(Problem(where, what))


def read_environment(environ: Mapping[str, str]) -> Reading:
    """Parse every setting; an empty text counts as unset (W36)."""
    reading = Reading({}, [], [])
    for row in SETTINGS:
        text = environ.get(row.name, "")
        if text.strip():
            _parse(row, text, reading)
    reading.values["agent_env"] = _agent_env(environ, reading)
    _check_names(environ, reading)
    _fold_coordinator_urls(reading)
    _check_agent_auth(reading)
    return reading


def _parse(row: Setting, text: str, reading: Reading) -> None:
    try:
        reading.values[row.field] = row.parse(text)
    except ValueError as error:
        if row.lenient:
            reading.warnings.append(f"{row.name}: {error}; using {row.default}")
        else:
            reading.problem(row.name, str(error))


def _agent_env(environ: Mapping[str, str], reading: Reading) -> dict[str, str]:
    """``KICI_AGENT_ENV_X=v`` becomes ``X=v``; values are the operator's, also empty ones."""
    names = sorted(name for name in environ if name.startswith(AGENT_ENV_PREFIX))
    forwarded = {name.removeprefix(AGENT_ENV_PREFIX): environ[name] for name in names}
    if "" in forwarded:
        reading.problem(AGENT_ENV_PREFIX, "expected a variable's name after the prefix, found none")
    return forwarded


def _check_names(environ: Mapping[str, str], reading: Reading) -> None:
    reading.warnings.extend(
        f"{name}: ignored; {advice}" for name, advice in ADVICE.items() if environ.get(name)
    )
    downgraded = environ.get(DEV_VARIABLE, "").strip().lower() == "true"
    for name in unknown_names(environ, NAMES):
        near = nearest(name, NAMES)
        hint = f"; did you mean {near}?" if near else ""
        if downgraded:
            reading.warnings.append(f"{name}: unknown variable{hint}")
        else:
            reading.problem(name, f"unknown variable{hint} (KICI_DEV=true makes this a warning)")


def _fold_coordinator_urls(reading: Reading) -> None:
    """The plural wins over the singular (W6); a list of blanks is no list (W5)."""
    singular = reading.values.pop("coordinator_url", None)
    urls = reading.values.get("coordinator_urls") or ((singular,) if singular else ())
    reading.values["coordinator_urls"] = urls
    wrong = any("COORDINATOR_URL" in problem.where for problem in reading.problems)
    if not urls and not wrong and reading.values.get("role", "worker") == "worker":
        reading.problem(
            "KICI_CLUSTER_COORDINATOR_URL",
            "a worker needs its coordinator's URL here or in KICI_CLUSTER_COORDINATOR_URLS, "
            "found neither",
        )


def _check_agent_auth(reading: Reading) -> None:
    """No tokens only where nobody else can reach the port (W91)."""
    values = reading.values
    if values.get("agent_auth") != "none" or values.get("insecure_agent_auth"):
        return
    if not is_loopback(values.get("host", "0.0.0.0")):
        reading.problem(
            "KICI_AGENT_AUTH",
            "`none` would let anybody take jobs: expected KICI_HOST=127.0.0.1 (or another loopback "
            "address) or KICI_INSECURE_AGENT_AUTH=true, found KICI_HOST="
            + values.get("host", "0.0.0.0"),
        )


def is_loopback(host: str) -> bool:
    """True for an address that only this machine can reach."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
