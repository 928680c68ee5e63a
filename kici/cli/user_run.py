"""``kici run FILE.yaml``: submit a job, follow it if wanted."""

import argparse
import json
import sys

from kici.cli.coordinator_client import add_options, coordinator_of
from kici.cli.job_file import read_job_file
from kici.cli.job_log import job_path, outcome, show_log, summary
from kici.cli.terminal import clean
from kici.cli.verbs import EXIT_OK

HELP = "submit a job; with --follow show its log and wait for its end"
EPILOG = """\
A job is a YAML file: name, runs-on (labels), repo or source, env, secrets (references only),
steps with commands. See docs/coordinator.md and examples/.

Exit codes: 0 submitted, or with --follow ended well; 1 refused, or ended otherwise;
2 wrong usage or document; 3 coordinator not reachable; 130 interrupted (the job goes on).
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="job document; - reads stdin")
    parser.add_argument("-f", "--follow", action="store_true", help="live log until the end")
    parser.add_argument("--run-id", help="run that the job belongs to (default: a new one)")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    document = read_job_file(args.file)
    coordinator = coordinator_of(args)
    wish = {"job": document} | ({"runId": args.run_id} if args.run_id else {})
    made = coordinator.ask("POST", "/api/v1/jobs", wish)
    if not args.follow:
        print(json.dumps(made) if args.json else f"Job {made['jobId']} {made['state']}")
        _explain(made["waiting"])
        return EXIT_OK
    print(f"Job {made['jobId']}", file=sys.stderr)
    _explain(made["waiting"])
    try:
        show_log(coordinator, made["jobId"], follow=True, as_json=args.json)
    except KeyboardInterrupt:
        print(f"\nThe job goes on: kici logs -f {made['jobId']}", file=sys.stderr)
        return 130
    job = coordinator.ask("GET", job_path(made["jobId"]))
    print(json.dumps(job, ensure_ascii=False) if args.json else summary(job))
    return outcome(job)


def _explain(why: str | None) -> None:
    if why:
        print(f"waiting: {clean(why)}", file=sys.stderr)
