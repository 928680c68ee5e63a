"""``kici-worker run``: the daemon. Nothing heavy at module top (memory and start time)."""

import argparse
import logging
import os
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kici.errors import ConfigError

HELP = "run the worker (the default)"
EPILOG = """\
Configured by KICI_* environment variables; see docs/configuration.md.
Exit codes: 0 stopped on request, 1 cannot start or crashed, 78 wrong configuration
under a service manager (which must not restart it).
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--exit-config",
        type=int,
        metavar="CODE",
        help="exit code for a wrong configuration (default: 1, and 78 under a service manager)",
    )


def run(args: argparse.Namespace) -> int:
    # First of all imports, see patch_ssl.
    from kici.supervisor.preload import patch_ssl

    patch_ssl()
    from kici import log
    from kici.config.load import load_config
    from kici.errors import ConfigError

    try:
        config = load_config(os.environ)
    except ConfigError as error:
        fatal(error, os.environ)
        return config_exit_code(os.environ) if args.exit_config is None else args.exit_config
    log.setup(config.settings)
    if config.settings.loki_url:
        from kici.shell.log_pipe import open_pipe

        open_pipe()
    for warning in config.warnings:
        logging.getLogger("kici.supervisor").warning(warning)
    from kici.supervisor.main import run as supervise

    return supervise(config)


def config_exit_code(environ: Mapping[str, str]) -> int:
    """78 where a service manager would otherwise start us again and again."""
    managed = environ.get("INVOCATION_ID") or environ.get("NOTIFY_SOCKET")
    from kici.errors import EXIT_CONFIG

    return EXIT_CONFIG if managed else 1


def fatal(error: "ConfigError", environ: Mapping[str, str]) -> None:
    """The one line of a start that failed before the settings were known (spec 2.6)."""
    from kici import log

    given = environ.get("KICI_LOG_FORMAT", "")
    log.setup(format=given if given in ("plain", "json") else "auto")
    _also_to_files(environ)
    extra = {
        "error": str(error),
        "problems": [str(problem) for problem in error.problems],
        "stack": "".join(traceback.format_stack()),
    }
    logging.getLogger("kici.supervisor").error("Fatal startup error", extra=extra)


def _also_to_files(environ: Mapping[str, str]) -> None:
    """Where nobody may look at stdout (launchd): only what is certain is used of the settings,
    so nothing is rotated or deleted."""
    from kici.config import places
    from kici.log_files import DailyFile
    from kici.log_lines import JsonLines

    given = environ.get("KICI_LOG_DIR", "").strip()
    directory = places.expand(given, environ)
    if given and os.path.isdir(directory):
        ever = float("inf")
        files = DailyFile(directory, "", max_bytes=2**62, retention_days=ever)
        files.setFormatter(JsonLines())
        logging.getLogger().addHandler(files)
