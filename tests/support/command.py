"""Running our commands as an operator does: a process, its output, its exit code."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 30.0


class Ran(msgspec.Struct, frozen=True):
    code: int
    out: str
    err: str


def run_worker(*words: str, module: str = "worker", **environ: str) -> Ran:
    """``kici-worker words…`` with nothing but ``environ`` (and what Python needs)."""
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-c", f"from kici.cli.{module} import main; main()", *words],
        env={**bare, **environ},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # no terminal to ask for a password on
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)
