"""``kici jobs``: the newest jobs of a coordinator."""

import argparse
import time

from kici.cli.coordinator_client import EXITS, add_options, coordinator_of
from kici.cli.job_log import COLOUR_OF
from kici.cli.terminal import clean, duration, paint, show, table
from kici.cli.verbs import EXIT_OK

HELP = "list jobs, the newest first"
EPILOG = EXITS


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=int, default=20, help="how many (default 20)")
    parser.add_argument("--state", help="only jobs in this state")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    state = f"&state={args.state}" if args.state else ""
    answer = coordinator_of(args).ask("GET", f"/api/v1/jobs?limit={max(1, args.limit)}{state}")
    jobs = answer["jobs"]
    if not jobs:
        show(args, answer, "No jobs yet.")
        return EXIT_OK
    head = ("JOB", "NAME", "STATE", "WORKER", "AGE", "REASON")
    text = table(head, [_row(job) for job in jobs])
    lines = text.splitlines()
    painted = [_painted(line, job["state"]) for line, job in zip(lines[1:], jobs, strict=True)]
    show(args, answer, "\n".join([lines[0], *painted]))
    return EXIT_OK


def _row(job: dict) -> tuple:
    age = duration(max(0.0, time.time() - job["createdAt"] / 1000))
    reason = job["reason"] or job["waiting"] or ""
    return (job["jobId"][:8], job["name"], job["state"], job["holder"] or "-", age, reason[:100])


def _painted(line: str, state: str) -> str:
    return line.replace(clean(state), paint(state, COLOUR_OF.get(state, "grey")), 1)
