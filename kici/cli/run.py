"""``kici-worker run``: the daemon. Nothing heavy at module top (memory and start time)."""

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Mapping

HELP = "run the worker (the default)"
EPILOG = """\
Configured by KICI_* environment variables; see docs/configuration.md.
Exit codes: 0 stopped on request, 1 cannot start or crashed, 78 wrong configuration
under a service manager (which must not restart it).
"""
#: sysexits' EX_CONFIG; the unit has RestartPreventExitStatus=78.
EXIT_CONFIG = 78


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--exit-config",
        type=int,
        metavar="CODE",
        help="exit code for a wrong configuration (default: 1, and 78 under a service manager)",
    )


def run(args: argparse.Namespace) -> int:
    # First of all imports: see environment.md, "Fork and gevent".
    from gevent import monkey

    monkey.patch_ssl()
    from kici import log
    from kici.config.load import load_config
    from kici.errors import ConfigError

    try:
        config = load_config(os.environ)
    except ConfigError as error:
        fatal(str(error), os.environ)
        return config_exit_code(os.environ) if args.exit_config is None else args.exit_config
    log.setup(config.settings)
    from kici.supervisor.main import run as supervise

    return supervise(config)


def config_exit_code(environ: Mapping[str, str]) -> int:
    """78 where a service manager would otherwise start us again and again."""
    managed = environ.get("INVOCATION_ID") or environ.get("NOTIFY_SOCKET")
    return EXIT_CONFIG if managed else 1


def fatal(error: str, environ: Mapping[str, str]) -> None:
    """The one line of a start that failed before logging was configured (spec 2.6)."""
    if environ.get("KICI_LOG_FORMAT") == "plain" or (
        sys.stdout.isatty() and environ.get("KICI_LOG_FORMAT") != "json"
    ):
        print(f"error Fatal startup error: {error}", flush=True)
        return
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
    line = {
        "error": error,
        "level": "error",
        "message": "Fatal startup error",
        "service": "orchestrator",
        "stack": "".join(traceback.format_stack(limit=3)),
        "timestamp": stamp,
    }
    print(json.dumps(line, sort_keys=True), flush=True)
