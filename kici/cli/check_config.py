"""``kici-worker check-config``: what the configuration means, or everything wrong with it.

Creates nothing, connects to nothing. Exit codes: 0 usable, 1 problems found.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from kici.cli.envfile import unread, worker_environment
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
    return _check(args, worker_environment(os.environ, args.env_file))


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
    from kici.config.shown import shown_config
    from kici.errors import ConfigError

    try:
        config = load_config(environ, touch=False)
    except ConfigError as error:
        problems = [{"where": each.where, "what": each.what} for each in error.problems]
        lines = [f"{paint(each.where, 'bold')}: {each.what}" for each in error.problems]
        lines.append(paint(f"{len(lines)} problem{'s' if len(lines) > 1 else ''}", "red"))
        data: dict[str, Any] = {"ok": False, "problems": problems}
        if hint := unread(os.environ, args.env_file):
            data["hint"] = hint
            lines.append(f"{paint('hint', 'yellow')}: {hint}")
        show(args, data, "\n".join(lines))
        return EXIT_FAILED
    data = {"ok": True, **shown_config(config)}
    show(args, data, _text(data))
    return EXIT_OK


def _word(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


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
