"""``kici-worker reload``: read the configuration again, and say what came of it."""

import argparse
import time

from kici.cli.daemon import add_options, daemon_of
from kici.cli.terminal import clean, show
from kici.cli.verbs import EXIT_FAILED, EXIT_OK, Failed

HELP = "read the configuration again"
EPILOG = """\
As SIGHUP (systemctl reload kici-worker). A configuration with problems changes nothing.
Exit codes: 0 reloaded, 1 refused with the problems, 3 worker not reachable.
"""
WAIT_S = 10.0
POLL_S = 0.1


def arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    daemon = daemon_of(args)
    before = daemon.ask("GET", "/status")["lastReload"]
    daemon.ask("POST", "/api/v1/reload")
    end = time.monotonic() + WAIT_S
    while (result := daemon.ask("GET", "/status")["lastReload"]) == before:
        if time.monotonic() > end:
            raise Failed("the worker has not reloaded yet; see its log")
        time.sleep(POLL_S)
    text = "Reloaded." if result["ok"] else "Refused; nothing changed:"
    problems = "".join(f"\n  {clean(problem)}" for problem in result["problems"])
    show(args, result, text + problems)
    return EXIT_OK if result["ok"] else EXIT_FAILED
