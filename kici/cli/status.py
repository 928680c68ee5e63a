"""``kici-worker status``: one screen, in the order of an operator's questions."""

import argparse
import time

from kici.cli.daemon import Daemon, add_options, daemon_of
from kici.cli.terminal import clean, duration, paint, seconds, show, size
from kici.cli.verbs import EXIT_USAGE, Failed

HELP = "show the worker on one screen"
EPILOG = """\
Exit codes: 0 the worker answered, 3 it is not reachable. --watch ends with Ctrl-C.
"""
STATE_COLOUR = {"connected": "green", "disconnected": "red"}
WATCH_S = 2.0


def arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    parser.add_argument("--watch", "-w", action="store_true", help="again every two seconds")


def run(args: argparse.Namespace) -> int:
    if args.watch and args.json:
        raise Failed("--watch and --json exclude each other", EXIT_USAGE)
    daemon = daemon_of(args)
    if args.watch:
        return _watch(daemon)
    status = daemon.ask("GET", "/status")
    show(args, status, screen(status, time.time()))
    return 0


def _watch(daemon: Daemon) -> int:
    while True:
        try:
            text = screen(daemon.ask("GET", "/status"), time.time())
        except Failed as error:
            text = paint(str(error), "red")
        print(f"\x1b[H\x1b[2J{text}", flush=True)
        time.sleep(WATCH_S)


def screen(status: dict, now: float) -> str:
    """The whole screen as text."""
    lines = [_headline(status)]
    lines += [_link(link, now) for link in status["coordinators"]]
    lines += [_slots(status), *_scalers(status["scalers"]), *_why_not(status)]
    lines += _storage(status)
    if status["recentJobs"]:
        lines.append("Recent:")
        lines += [_recent(job, now) for job in status["recentJobs"][:5]]
    return "\n".join(lines)


def _headline(status: dict) -> str:
    mood = "stopping" if status["drain"]["stopping"] else "draining" if status["draining"] else ""
    name = paint(clean(status["instanceId"]), "bold")
    text = f"{name}  version {status['version']}  up {duration(status['uptimeSeconds'])}"
    if mood:
        reason = clean(status["drain"]["reason"])
        text += "  " + paint(mood + (f" ({reason})" if reason else ""), "yellow")
    return text


def _link(link: dict, now: float) -> str:
    state = paint(link["state"], STATE_COLOUR.get(link["state"], "yellow"))
    since = f" for {duration(now - seconds(link['since']))}" if link["since"] else ""
    reason = f"  {clean(link['reason'])}" if link["reason"] else ""
    return f"Link:   {clean(link['url'])}  {state}{since}{reason}"


def _slots(status: dict) -> str:
    free = sum(scaler["freeSlots"] for scaler in status["scalers"])
    agents = status["agents"]
    return (
        f"Jobs:   {status['activeJobs']} active, {status['startingJobs']} starting, "
        f"{status['queuedJobs']} queued; {free} slots free; "
        f"agents {agents['active']} busy, {agents['idle']} idle"
    )


def _scalers(scalers: list[dict]) -> list[str]:
    return [
        f"Scaler: {clean(scaler['name'])} ({scaler['type']})  "
        f"{scaler['activeAgents']}/{scaler['maxAgents']}"
        + ("" if scaler["healthy"] else "  " + paint(clean(scaler["reason"]), "red"))
        for scaler in scalers
    ]


def _why_not(status: dict) -> list[str]:
    return (
        [f"Takes no jobs: {paint(clean(status['refusing']), 'yellow')}"]
        if status["refusing"]
        else []
    )


def _storage(status: dict) -> list[str]:
    outbox, spool = status["outbox"], status["logSpool"]
    lines = []
    if outbox["concluded"]:
        lines.append(f"Outbox: {outbox['concluded']} results wait for the coordinator")
    if spool["bytes"] or spool["lostLines"]:
        text = f"Spool:  {size(spool['bytes'])} of {size(spool['limitBytes'])}"
        lines.append(text + (f", {spool['lostLines']} lines lost" if spool["lostLines"] else ""))
    lines += [
        f"Process {child['name']}: {paint(child['state'], 'red')} {clean(child['reason'])}"
        for child in status["processes"]
        if child["state"].upper() != "RUNNING"
    ]
    return lines


def _recent(job: dict, now: float) -> str:
    colour = {"success": "green", "failed": "red"}.get(job["status"], "yellow")
    ago = duration(now - seconds(job["completedAt"]))
    took = duration(job["durationMs"] / 1000)
    name = clean(f"{job['workflowName']}/{job['jobName']}")
    return (
        f"  {paint(job['status'].ljust(9), colour)} {name}  took {took}, {ago} ago  {job['jobId']}"
    )
