"""``kici-worker logs JOB``: the log of a running job, as it comes."""

import argparse
import contextlib
import json
import re
import sys
import time

from kici.cli.daemon import Daemon, add_options, daemon_of
from kici.cli.terminal import use_colour
from kici.cli.verbs import EXIT_OK, EXIT_UNREACHABLE, Failed

HELP = "show the log of a running job"
EPILOG = """\
The worker keeps no logs: it shows what it has of the last lines and, with -f, what comes.
The whole log is at the coordinator: kici logs JOB.

Exit codes: 0 shown, 1 no such job runs, 3 worker not reachable (with -f: for a minute).
"""
#: Without -f: nothing more came for this long.
QUIET_S = 1.5
#: With -f the worker says something every 15 s.
SILENCE_S = 45.0
#: A web process is back in a second, a worker in some.
RETRY_FOR_S = 60.0
RETRY_EVERY_S = 0.5
#: A stream that lived so long was one.
STEADY_S = 10.0
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
    reader = Reader(args, daemon, f"/api/v1/jobs/{job_id}/log")
    if args.follow:
        _follow(reader)
    else:
        with contextlib.suppress(TimeoutError):
            reader.read(QUIET_S)
    return EXIT_OK


class Reader:
    """Owns: the id of the last event that was printed, so that none is printed twice."""

    def __init__(self, args: argparse.Namespace, daemon: Daemon, path: str) -> None:
        self._args = args
        self._daemon = daemon
        self._path = path
        self.last_id = ""

    def read(self, silence_s: float) -> bool:
        """Print until the stream ends; True when the job has ended."""
        for event in self._daemon.stream(self._path, silence_s, self.last_id):
            if event.name == "end":
                return True
            self.last_id = event.id
            _print(self._args, event.name, event.data)
        return False


def _follow(reader: Reader) -> None:
    """Until the job ends, over restarts of the web process and of the worker."""
    lost_at: float | None = None
    while True:
        began_at, last_id = time.monotonic(), reader.last_id
        try:
            if reader.read(SILENCE_S):
                return
            why = "the worker ended the stream"
        except TimeoutError:
            why = "the worker fell silent"
        except Failed as error:
            if error.code != EXIT_UNREACHABLE:
                raise
            why = str(error)
        now = time.monotonic()
        was_steady = now - began_at > STEADY_S or reader.last_id != last_id
        if lost_at is None or was_steady:
            print(f"{why}; trying again", file=sys.stderr)
            lost_at = now
        if now - lost_at > RETRY_FOR_S:
            raise Failed(f"{why}; the job may still run", EXIT_UNREACHABLE)
        time.sleep(RETRY_EVERY_S)


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
