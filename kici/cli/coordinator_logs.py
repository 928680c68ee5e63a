"""``kici-coordinator logs collect``: a worker's logs and those of its agents, as a ZIP."""

import argparse
import contextlib
import os
from urllib.parse import quote

from kici.cli.coordinator_client import EXITS, Coordinator, add_options, coordinator_of
from kici.cli.terminal import show, size
from kici.cli.verbs import EXIT_OK, EXIT_USAGE, Failed

HELP = "collect the logs of a worker and its agents"
EPILOG = f"""\\
The worker answers with its log files (it needs KICI_LOG_DIR), its masked configuration and
state, and a bundle of each agent that is connected; it takes half a minute when one is silent.

  kici-coordinator logs collect -o logs.zip
  kici-coordinator logs collect --worker worker-7 --hours 24 -o logs.zip

{EXITS}"""
#: A worker has a minute, and the file must come over.
TIMEOUT_S = 90.0


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    collect = actions.add_parser("collect", help=HELP, description=HELP)
    collect.add_argument("--worker", metavar="ID", help="default: the only one that is connected")
    collect.add_argument("--hours", type=float, default=4.0, help="how far back (default 4)")
    collect.add_argument(
        "--agent", action="append", metavar="ID", help="only of this agent; may be repeated"
    )
    collect.add_argument("-o", "--output", metavar="FILE", required=True, help="the new ZIP file")
    add_options(collect)


def run(args: argparse.Namespace) -> int:
    coordinator = coordinator_of(args)
    worker = args.worker or _only_one(coordinator)
    body = {"hours": args.hours} | ({"agentIds": args.agent} if args.agent else {})
    path = f"/api/v1/admin/peers/{quote(worker, safe='')}/logs"
    try:
        descriptor = os.open(args.output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Failed(f"{args.output}: {error.strerror}") from None
    try:
        with open(descriptor, "wb") as file:
            n_bytes = coordinator.download(path, body, file, TIMEOUT_S)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(args.output)
        raise
    facts = {"file": args.output, "bytes": n_bytes, "worker": worker}
    show(args, facts, f"{args.output} ({size(n_bytes)}): the logs of {worker}")
    return EXIT_OK


def _only_one(coordinator: Coordinator) -> str:
    peers = coordinator.ask("GET", "/cluster/peers")["peers"]
    connected = [peer["instanceId"] for peer in peers if peer["connected"]]
    if len(connected) != 1:
        names = ", ".join(sorted(connected)) or "none"
        raise Failed(f"give --worker ID; connected: {names}", EXIT_USAGE)
    return str(connected[0])
