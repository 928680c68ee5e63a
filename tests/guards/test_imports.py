"""What a start imports: time and memory of every process, in a number that no machine changes.

A limit is what was needed when it was set, and a little more. Whoever needs more for a good
reason raises it here, on purpose.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Modules in the parent at the fork (657 on CPython 3.11, 688 on 3.13 with Debian's versions).
MAX_PARENT_MODULES = 710
#: Modules of a command that only prints (3.11: about 110).
MAX_COMMAND_MODULES = 190
#: Large, and needed by nobody until a scaler or a command asks for them.
LATE = (
    "docker",
    "requests",
    "urllib3",
    "ctypes",
    "asyncio",
    "multiprocessing",
    "sqlite3",
    "flask",
    "jinja2",
    "werkzeug",
    "prometheus_client",
    "unittest",
    "pydoc",
    "cryptography.x509",
    "kici.coordinator",
    "kici.agent",
)
_PARENT = """
from kici.supervisor import preload
preload.patch_ssl()
from kici import log
from kici.config.load import load_config
import kici.supervisor.main
preload.import_gevent()
preload.real_children()
import kici.supervisor.worker
"""
_COMMAND = """
from kici.cli.worker import main
import contextlib, io, sys
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    sys.argv = ["kici-worker", "version"]
    main()
"""


def modules_after(code):
    code += "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def parent():
    return modules_after(_PARENT)


def test_the_parent_imports_no_more_than_it_did(parent):
    assert len(parent) <= MAX_PARENT_MODULES, sorted(parent)


@pytest.mark.parametrize("name", LATE)
def test_what_is_large_and_rarely_needed_comes_late(parent, name):
    assert name not in parent


def test_a_command_that_only_prints_imports_no_framework():
    modules = modules_after(_COMMAND)
    assert not modules & {"gevent", "flask", "supervisor", "cryptography", "websockets"}
    assert len(modules) <= MAX_COMMAND_MODULES, sorted(modules)
