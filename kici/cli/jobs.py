"""``kici-worker jobs``: what runs and what ended lately."""

import argparse

from kici.cli.daemon import add_options, daemon_of
from kici.cli.terminal import clean, duration, paint, show, table

HELP = "list running and recent jobs"
COLOUR_OF = {"success": "green", "failed": "red", "cancelled": "yellow", "running": "blue"}


def arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    parser.add_argument("--limit", type=int, default=20, help="ended jobs to show (default 20)")
    parser.add_argument("--all", action="store_true", help="every job that is remembered")


def run(args: argparse.Namespace) -> int:
    limit = 500 if args.all else args.limit
    answer = daemon_of(args).ask("GET", f"/api/v1/jobs?limit={limit}")
    show(args, answer, describe(answer))
    return 0


def describe(answer: dict) -> str:
    """Both lists as one table, running jobs first."""
    rows = [row(job) for job in (*answer["jobs"], *answer["history"])]
    if not rows:
        return "No jobs yet."
    text = table(("JOB", "NAME", "WORKFLOW", "STATE", "TOOK", "STEP OR ERROR"), rows)
    return "\n".join(_painted(line) for line in text.splitlines())


def row(job: dict) -> tuple:
    took = None if job["durationMs"] is None else job["durationMs"] / 1000
    detail = job.get("step") or job.get("error") or ""
    return (
        job["jobId"],
        job["jobName"],
        job["workflowName"],
        job["status"],
        "-" if took is None else duration(took),
        clean(detail)[:60],
    )


def _painted(line: str) -> str:
    for state, colour in COLOUR_OF.items():
        padded = f"  {state}  "
        if padded in line:
            return line.replace(padded, f"  {paint(state, colour)}  ", 1)
    return line
