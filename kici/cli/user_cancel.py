"""``kici cancel JOB``."""

import argparse

from kici.cli.coordinator_client import EXITS, add_options, coordinator_of
from kici.cli.job_log import job_path
from kici.cli.terminal import show
from kici.cli.verbs import EXIT_OK

HELP = "cancel a job that waits or runs"
EPILOG = EXITS


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", help="job id, or its beginning")
    parser.add_argument("--reason", help="shown with the job")
    parser.add_argument("--force", action="store_true", help="kill its steps at once")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    wish = {"force": args.force} | ({"reason": args.reason} if args.reason else {})
    job = coordinator_of(args).ask("POST", job_path(args.job) + "/cancel", wish)
    show(args, job, f"Job {job['jobId']} {job['state']}")
    return EXIT_OK
