"""Running our commands as an operator does: a process, its output, its exit code."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
    with start_worker(*words, module=module, **environ) as process:
        out, err = process.communicate(timeout=TIMEOUT_S)
    return Ran(process.returncode, out, err)


@contextmanager
def start_worker(
    *words: str, module: str = "worker", **environ: str
) -> Iterator["subprocess.Popen[str]"]:
    """The same while it runs; killed at the end of the block when it still does."""
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": "/nonexistent"}
    with subprocess.Popen(
        [sys.executable, "-c", f"from kici.cli.{module} import main; main()", *words],
        env={**bare, **environ},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # no terminal to ask for a password on
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
