"""``kici-worker drain``: stop taking jobs, let running ones finish."""

import argparse
import time

from kici.cli.daemon import Daemon, add_options, daemon_of
from kici.cli.terminal import progress, show
from kici.cli.verbs import EXIT_OK

HELP = "stop taking jobs; running ones finish"
EPILOG = """\
The process stays; stop it afterwards (systemctl stop kici-worker), or undrain.
Exit codes: 0 drained or asked for, 1 refused, 3 worker not reachable.
"""
#: How often --wait looks.
POLL_S = 1.0


def arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    parser.add_argument("--deadline", metavar="TIME", help="cancel what still runs then: 30m, 2h")
    parser.add_argument("--reason", default="", help="shown to people and coordinators")
    parser.add_argument("--wait", action="store_true", help="return when no job is left")


def run(args: argparse.Namespace) -> int:
    daemon = daemon_of(args)
    wish = {"reason": args.reason, "deadline": args.deadline}
    answer = daemon.ask("POST", "/drain", {key: text for key, text in wish.items() if text})
    n_jobs = answer["activeJobs"]
    if not args.wait:
        show(args, answer, f"Worker draining. Active jobs: {n_jobs}")
        return EXIT_OK
    _wait(daemon)
    show(args, {"draining": True, "activeJobs": 0}, "Worker drained. No jobs left.")
    return EXIT_OK


def n_left(status: dict) -> int:
    """Jobs that still hold the worker: running, starting and queued."""
    return status["activeJobs"] + status["startingJobs"] + status["queuedJobs"]


def _wait(daemon: Daemon) -> None:
    while left := n_left(daemon.ask("GET", "/status")):
        progress(f"Draining: {left} job(s) left")
        time.sleep(POLL_S)
