"""``kici-worker debug bundle``: everything a maintainer asks for, in one file, no secrets."""

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from kici.cli import doctor
from kici.cli.daemon import Daemon, add_options, daemon_of
from kici.cli.envfile import worker_environment
from kici.cli.terminal import show, size
from kici.cli.verbs import EXIT_OK, Failed

HELP = "collect what a bug report needs"
EPILOG = """\
Written to the current directory, mode 0600: masked configuration, state, jobs with their
time lines, the last 5,000 events, metrics, the doctor's findings. Nothing is sent anywhere.
What a worker that is down cannot tell is left out and named in errors.txt.

Exit codes: 0 written, 1 not written.
"""
#: name in the bundle -> path at the worker.
PARTS = {
    "status.json": "/status",
    "health.json": "/health",
    "jobs.json": "/api/v1/jobs?limit=500",
    "agents.json": "/api/v1/agents",
    "refusals.json": "/api/v1/refusals",
    "events.json": "/api/v1/debug/events",
    "metrics.txt": "/metrics",
}
CHECK_S = 20.0


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    bundle = actions.add_parser("bundle", help=HELP)
    add_options(bundle)
    bundle.add_argument("--output", "-o", metavar="FILE", help="default: kici-worker-TIME.tar.gz")


def run(args: argparse.Namespace) -> int:
    path = args.output or time.strftime("kici-worker-%Y%m%d-%H%M%S.tar.gz", time.gmtime())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}") from None
    try:
        with open(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            names = [_add(archive, name, data) for name, data in contents(args)]
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    facts = {"file": path, "bytes": os.path.getsize(path), "parts": names}
    show(args, facts, f"{path} ({size(facts['bytes'])}): {', '.join(names)}")
    return EXIT_OK


def contents(args: argparse.Namespace) -> Iterator[tuple[str, bytes]]:
    """``(name, data)``; what fails is told in the last part."""
    errors: list[str] = []
    daemon = _daemon(args, errors)

    def attempt(name: str, make: Callable[[], bytes]) -> Iterator[tuple[str, bytes]]:
        try:
            yield name, make()
        except (Failed, OSError, subprocess.SubprocessError) as error:
            errors.append(f"{name}: {error}")

    yield from attempt("config.json", lambda: _config(args))
    yield from attempt("doctor.json", lambda: _doctor(args))
    for name, path in PARTS.items() if daemon else ():
        yield from attempt(name, lambda path=path: _fetch(daemon, path))
    yield "errors.txt", "\n".join(errors).encode()


def _daemon(args: argparse.Namespace, errors: list[str]) -> Daemon | None:
    """None, and the reason in ``errors``, where the worker's variables do not say where it is;
    a slip of this command line is ``Failed``."""
    worker_environment(os.environ, args.env_file)
    try:
        return daemon_of(args)
    except Failed as error:
        if args.url:
            raise
        errors.append(str(error))
        return None


def _fetch(daemon: Daemon, path: str) -> bytes:
    from kici.redaction import redact

    return redact(daemon.text(path)).encode()


def _config(args: argparse.Namespace) -> bytes:
    """What ``check-config --json`` shows: it masks secrets."""
    words = ["check-config", "--json", *(["--env-file", args.env_file] if args.env_file else [])]
    code = "from kici.cli.worker import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, timeout=CHECK_S, check=False
    )
    return done.stdout or done.stderr


def _doctor(args: argparse.Namespace) -> bytes:
    from kici.redaction import redact

    findings: list[Any] = doctor.examine(args)
    shown = json.dumps([doctor.as_json(finding) for finding in findings], indent=1)
    return redact(shown).encode()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> str:
    info = tarfile.TarInfo(f"kici-worker/{name}")
    info.size, info.mtime, info.mode = len(data), int(time.time()), 0o600
    archive.addfile(info, io.BytesIO(data))
    return name
