"""``kici-worker version``, ``kici-coordinator version``."""

import argparse
import json
import platform

import kici

HELP = "show the version"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    facts = {
        "version": kici.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system().lower()}/{platform.machine()}",
    }
    if args.json:
        print(json.dumps(facts))
    else:
        print(f"{args.program} {facts['version']} (Python {facts['python']}, {facts['platform']})")
    return 0
