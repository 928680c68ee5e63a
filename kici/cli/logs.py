"""``kici-worker logs JOB``: the log of a running job, as it comes."""

import argparse
import json
import re
import sys

from kici.cli.daemon import add_options, daemon_of
from kici.cli.terminal import use_colour
from kici.cli.verbs import EXIT_OK, Failed

HELP = "show the log of a running job"
EPILOG = """\
The worker keeps no logs: it shows what it has of the last lines and, with -f, what comes.
The whole log is at the coordinator: kici logs JOB.

Exit codes: 0 shown, 1 no such job runs, 3 worker not reachable.
"""
#: Without -f: nothing more came for this long.
QUIET_S = 1.5
#: With -f the worker says something every 15 s.
SILENCE_S = 60.0
_SGR = re.compile(r"\x1b\[[0-9;]*m")
_CONTROL = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.?)|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


def arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    parser.add_argument("job", metavar="JOB", help="its id or the beginning of it")
    parser.add_argument("-f", "--follow", action="store_true", help="until the job ends")


def run(args: argparse.Namespace) -> int:
    daemon = daemon_of(args)
    job_id = _job_id(daemon.ask("GET", "/api/v1/jobs"), args.job)
    silence_s = SILENCE_S if args.follow else QUIET_S
    try:
        for name, data in daemon.stream(f"/api/v1/jobs/{job_id}/log", silence_s):
            if name == "end":
                break
            _print(args, name, data)
    except TimeoutError:
        if args.follow:
            raise Failed("the worker fell silent") from None
    return EXIT_OK


def safe(line: str, colour: bool) -> str:
    """``line`` without control sequences; colours stay where they are wanted."""
    kept = _SGR.findall(line) if colour else []
    if not kept:
        return _CONTROL.sub("", line)
    pieces = _SGR.split(line)
    text = _CONTROL.sub("", pieces[0])
    for code, piece in zip(kept, pieces[1:], strict=True):
        text += code + _CONTROL.sub("", piece)
    return text + "\x1b[0m"


def _print(args: argparse.Namespace, name: str, data: dict) -> None:
    if args.json:
        data.pop("html", None)
        print(json.dumps({"event": name, **data}), flush=True)
    elif name == "missed":
        print(f"[{data['lines']} lines skipped]", file=sys.stderr)
    else:
        for text in data["lines"]:
            print(safe(text, use_colour()), flush=True)


def _job_id(answer: dict, wanted: str) -> str:
    running = [job["jobId"] for job in answer["jobs"]]
    found = [job_id for job_id in running if job_id == wanted or job_id.startswith(wanted)]
    if wanted in found:
        return wanted
    if len(found) == 1:
        return str(found[0])
    if found:
        raise Failed(f"{wanted} fits {len(found)} jobs: {', '.join(sorted(found))}")
    if any(job["jobId"].startswith(wanted) for job in answer["history"]):
        raise Failed(f"{wanted} has ended; its log is at the coordinator: kici logs {wanted}")
    raise Failed(f"no job {wanted} runs here")
