"""``kici logs JOB``: what a job printed."""

import argparse

from kici.cli.coordinator_client import EXITS, add_options, coordinator_of
from kici.cli.job_log import show_log
from kici.cli.verbs import EXIT_OK

HELP = "print a job's log"
EPILOG = EXITS


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", help="job id, or its beginning")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the job ends")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    show_log(coordinator_of(args), args.job, follow=args.follow, as_json=args.json)
    return EXIT_OK
