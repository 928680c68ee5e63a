"""``kici-worker check-config``: what the configuration means, or everything wrong with it.

Creates nothing, connects to nothing. Exit codes: 0 usable, 1 problems found.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from kici.cli.envfile import worker_environment
from kici.cli.terminal import paint, show, table
from kici.cli.verbs import EXIT_FAILED, EXIT_OK, Failed, Parser

HELP = "check the configuration and show what it means"
EPILOG = """\
Reads the environment; when that is no worker's, the file of the package, or --env-file.

  kici-worker check-config
  kici-worker check-config --env-file /etc/kici/worker.env --json

Exit codes: 0 usable, 1 problems found.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--env-file", metavar="FILE", help="read KICI_* variables from FILE too")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    try:
        environ = worker_environment(os.environ, args.env_file)
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(f"{args.env_file}: {error}") from None
    return _check(args, environ)


def check_config(argv: Sequence[str]) -> int:
    """The verb by itself, for tests and scripts."""
    parser = Parser(prog="kici-worker check-config", description=HELP, epilog=EPILOG)
    arguments(parser)
    args = parser.parse_args(list(argv))
    try:
        return run(args)
    except Failed as error:
        print(error, file=sys.stderr)
        return error.code


def _check(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from kici.config.load import load_config
    from kici.errors import ConfigError

    try:
        config = load_config(environ, touch=False)
    except ConfigError as error:
        problems = [{"where": each.where, "what": each.what} for each in error.problems]
        lines = [f"{paint(each.where, 'bold')}: {each.what}" for each in error.problems]
        text = paint(f"{len(lines)} problem{'s' if len(lines) > 1 else ''}", "red")
        show(args, {"ok": False, "problems": problems}, "\n".join([*lines, text]))
        return EXIT_FAILED
    settings = _settings(config.settings)
    scalers = [_scaler(each) for each in config.scalers.scalers]
    data = {
        "ok": True,
        "settings": settings,
        "globalMaxAgents": config.scalers.global_max_agents,
        "scalers": scalers,
        "warnings": list(config.warnings),
    }
    show(args, data, _text(data))
    return EXIT_OK


def _settings(settings: Any) -> dict[str, Any]:
    """Variable name to effective value in the variable's own unit; unset ones are None."""
    from kici.config.settings import SETTINGS

    shown: dict[str, Any] = {
        row.name: _value(getattr(settings, row.field), row.unit)
        for row in SETTINGS
        if hasattr(settings, row.field)
    }
    shown |= {f"KICI_AGENT_ENV_{name}": "***" for name in settings.agent_env}
    return shown


def _value(value: Any, unit: str) -> Any:
    from kici.config.model import Secret
    from kici.redaction import redact

    if isinstance(value, Secret):
        return "***"
    if isinstance(value, tuple):
        return redact(",".join(value)) or None
    if unit == "ms":
        return round(value * 1000)
    if unit == "s":
        return f"{value:g}s"
    return redact(value) if isinstance(value, str) else value


def _word(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _scaler(scaler: Any) -> dict[str, Any]:
    return {
        "name": scaler.name,
        "type": scaler.type,
        "maxAgents": scaler.max_agents,
        "unsupported": scaler.unsupported,
        "labelSets": [
            {
                "labels": list(each.labels),
                "enriched": list(each.enriched),
                "gate": list(each.gate),
                "runs": each.image or each.binary_path,
            }
            for each in scaler.label_sets
        ],
    }


def _text(data: Mapping[str, Any]) -> str:
    rows = [[name, _word(value)] for name, value in data["settings"].items() if value is not None]
    parts = [table(["VARIABLE", "VALUE"], rows)]
    sets = [
        [
            scaler["name"],
            scaler["type"],
            scaler["maxAgents"],
            " ".join(each["gate"]) or "-",
            " ".join(each["enriched"]),
        ]
        for scaler in data["scalers"]
        for each in scaler["labelSets"]
    ]
    if sets:
        parts.append(table(["SCALER", "TYPE", "MAX", "JOB MUST ASK FOR", "OFFERS"], sets))
    parts += [f"{paint('warning', 'yellow')}: {warning}" for warning in data["warnings"]]
    return "\n\n".join([*parts[: 1 + bool(sets)], "\n".join([*parts[1 + bool(sets) :], "OK"])])
