"""``kici-worker doctor``: what is wrong, and one command that fixes it."""

import argparse
import contextlib
import os
from collections.abc import Mapping

from kici.cli.daemon import Daemon, add_options, admin_token, local_url
from kici.cli.envfile import unread, worker_environment
from kici.cli.terminal import clean, paint, show
from kici.cli.verbs import EXIT_FAILED, EXIT_OK, Failed

HELP = "check everything a worker needs, and say how to fix it"
EPILOG = """\
Works when the worker is down; takes less than three seconds.

Each line: symbol, name, value, (limit); a failure has a second line with one command.
Exit codes: 0 nothing failed (warnings are allowed), 1 something failed.
"""
SYMBOLS = {
    "ok": ("✓", "green"),
    "warn": ("!", "yellow"),
    "fail": ("✗", "red"),
    "skip": ("-", "grey"),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    parser.add_argument("--quiet", "-q", action="store_true", help="only what is not good")


def run(args: argparse.Namespace) -> int:
    from kici.cli.checks.finding import FAIL

    findings = examine(args)
    text = "\n".join(
        line(finding)
        for finding in findings
        if not args.quiet or finding.outcome in ("warn", "fail")
    )
    n_failed = sum(finding.outcome == FAIL for finding in findings)
    n_warned = sum(finding.outcome == "warn" for finding in findings)
    total = f"{len(findings)} checks, {n_failed} failed, {n_warned} warnings"
    data = {"ok": not n_failed, "checks": [as_json(finding) for finding in findings]}
    show(args, data, "\n".join(filter(None, (text, total))))
    return EXIT_FAILED if n_failed else EXIT_OK


def examine(args: argparse.Namespace) -> list:
    """Every finding about the worker that ``args`` mean."""
    from kici.cli.checks import configuration, engine, machine, network, service
    from kici.cli.checks.finding import run_all

    modules = (configuration, service, network, engine, machine)
    checks = [check for module in modules for check in module.CHECKS]
    return run_all(checks, _patient(args))


def _patient(args: argparse.Namespace):
    from kici.cli.checks.finding import Patient
    from kici.config.load import load_config
    from kici.errors import ConfigError

    environ = worker_environment(os.environ, args.env_file)
    daemon, where = _daemon(args, environ)
    unread_file = unread(os.environ, args.env_file)
    patient = Patient(environ=environ, where=where, unread=unread_file)
    try:
        patient.config = load_config(environ, touch=False)
    except ConfigError as error:
        patient.problems = error.problems
    with contextlib.suppress(Failed):
        patient.status = daemon.ask("GET", "/status") if daemon else None
    return patient


def _daemon(args: argparse.Namespace, environ: Mapping[str, str]) -> tuple[Daemon | None, str]:
    """The worker, and where it is or why nobody can say that."""
    try:
        url = args.url or local_url(environ)
    except Failed as error:
        return None, f"cannot be asked: {error}"
    return Daemon(url, admin_token(environ)), f"does not answer at {url}"


def line(finding) -> str:
    symbol, colour = SYMBOLS[finding.outcome]
    text = f"{paint(symbol, colour)} {finding.name}: {clean(finding.value)}"
    if finding.limit and finding.outcome != "ok":
        text += f" (wanted: {clean(finding.limit)})"
    return text + (f"\n    fix: {clean(finding.fix)}" if finding.fix else "")


def as_json(finding) -> dict[str, str]:
    return {
        "name": finding.name,
        "outcome": finding.outcome,
        "value": finding.value,
        "limit": finding.limit,
        "fix": finding.fix,
    }
