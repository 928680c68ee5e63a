"""``kici-worker explain --labels a,b``: would a job with these labels run here, and why not."""

import argparse
from typing import Any

from kici.cli.daemon import Daemon, add_options, daemon_of
from kici.cli.terminal import clean, paint, show
from kici.cli.verbs import EXIT_FAILED, EXIT_OK

HELP = "say which scaler would run a job, or what is missing"
EPILOG = """\
  kici-worker explain --labels linux,arm64

Exit codes: 0 a job would run here now, 1 it would not, 3 worker not reachable.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    parser.add_argument("--labels", required=True, metavar="A,B", help="the job's runs-on")


def run(args: argparse.Namespace) -> int:
    from kici.protocol.labels import canonical

    daemon = daemon_of(args)
    labels = [canonical(label) for label in args.labels.split(",") if label.strip()]
    answer = explain(daemon, labels)
    show(args, answer, _text(answer))
    return EXIT_OK if answer["wouldRun"] else EXIT_FAILED


def explain(daemon: Daemon, labels: list[str]) -> dict[str, Any]:
    """Everything that speaks for or against a job with ``labels``, as the pool would see it."""
    status = daemon.ask("GET", "/status")
    scalers = [_scaler(scaler, labels) for scaler in status["scalers"]]
    agents = [
        agent["agentId"]
        for agent in daemon.ask("GET", "/api/v1/agents")["agents"]
        if set(labels) <= set(agent["labels"])
    ]
    blockers = _blockers(status, scalers, agents)
    return {
        "labels": labels,
        "wouldRun": not blockers,
        "blockers": blockers,
        "scalers": scalers,
        "agents": agents,
        "refusals": daemon.ask("GET", "/api/v1/refusals")["refusals"][:5],
    }


def _scaler(scaler: dict[str, Any], labels: list[str]) -> dict[str, Any]:
    sets = [
        _label_set(have, gate, labels)
        for have, gate in zip(scaler["labelSets"], scaler["gates"], strict=True)
    ]
    return {
        "name": scaler["name"],
        "matches": any(not each["missing"] and not each["gate"] for each in sets),
        "labelSets": sets,
        "free": scaler["freeSlots"],
        "maxAgents": scaler["maxAgents"],
        "healthy": scaler["healthy"],
        "reason": scaler["reason"],
    }


def _label_set(have: list[str], gate: list[str], labels: list[str]) -> dict[str, Any]:
    return {
        "labels": have,
        "missing": sorted(set(labels) - set(have)),
        "gate": sorted(set(gate) - set(labels)),
    }


def _blockers(status: dict, scalers: list[dict[str, Any]], agents: list[str]) -> list[str]:
    """Reasons in the order in which the worker would meet them."""
    found = []
    if not any(link["state"] == "connected" for link in status["coordinators"]):
        found.append("no coordinator is connected: nobody offers jobs")
    if status["draining"]:
        found.append("the worker is draining")
    elif status["refusing"]:
        found.append(status["refusing"])
    matching = [scaler for scaler in scalers if scaler["matches"]]
    if not matching and not agents:
        found.append("no scaler has these labels and no agent either")
    elif not agents and not any(scaler["healthy"] for scaler in matching):
        found.append("the scalers that match cannot start agents")
    return found


def _text(answer: dict[str, Any]) -> str:
    verdict = "would run here" if answer["wouldRun"] else "would not run here"
    colour = "green" if answer["wouldRun"] else "red"
    lines = [paint(f"A job with {', '.join(answer['labels'])} {verdict}.", colour)]
    lines += [f"  {clean(blocker)}" for blocker in answer["blockers"]]
    for scaler in answer["scalers"]:
        lines += _scaler_lines(scaler)
    if answer["agents"]:
        lines.append(f"Agents with these labels: {', '.join(map(clean, answer['agents']))}")
    lines += [
        f"Refused lately: {clean(row['jobName'])} ({clean(', '.join(row['labels']))}): "
        f"{clean(row['reason'])}"
        for row in answer["refusals"]
    ]
    return "\n".join(lines)


def _scaler_lines(scaler: dict[str, Any]) -> list[str]:
    word = "matches" if scaler["matches"] else "does not match"
    slots = f"{scaler['free']} of {scaler['maxAgents']} slots free"
    is_full = scaler["healthy"] and scaler["free"] == 0
    full = "; full: a job would wait in the queue" if is_full else ""
    lines = [f"{clean(scaler['name'])} {word}; {slots}{full}"]
    if not scaler["healthy"]:
        lines.append("  " + paint(clean(scaler["reason"]), "red"))
    for each in scaler["labelSets"]:
        have = clean(", ".join(each["labels"]))
        if each["missing"]:
            lines.append(f"  [{have}] lacks {', '.join(each['missing'])}")
        elif each["gate"]:
            lines.append(f"  [{have}] wants {', '.join(each['gate'])} to be asked for")
    return lines
