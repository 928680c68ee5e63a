"""Real engines for this directory, and each test in a process patched as the pool's is.

The docker package is cooperative only under monkey patching, which must not reach the other
tests: a test here runs, fixtures and all, in a child that patches first. The engines are
started once by the outer process and found through the environment.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from _pytest.runner import CallInfo

from tests.support.container_engine import ROOT, RUNTIMES, TestEngine, missing

_PATCHED = "KICITEST_PATCHED"
_CHILD_TIMEOUT_S = 110
_started = {}


def _variable(runtime):
    return f"KICITEST_ENGINE_{runtime.upper()}"


@pytest.fixture(scope="session", params=RUNTIMES)
def engine(request):
    """A running engine with the test image in it."""
    return TestEngine(request.param, os.environ[_variable(request.param)])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    """Run ``item`` in a patched child, unless this is one or it is to be skipped."""
    skipped = item.get_closest_marker("skip")
    if os.environ.get(_PATCHED) or skipped or not item.get_closest_marker("engine"):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    runtime = item.callspec.params["engine"]
    _report(item, "setup", lambda: _start(item.config, runtime)) and _report(
        item, "call", lambda: _run_child(item)
    )
    _report(item, "teardown", lambda: None)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _report(item, when, action):
    call = CallInfo.from_call(action, when=when)
    report = item.ihook.pytest_runtest_makereport(item=item, call=call)
    item.ihook.pytest_runtest_logreport(report=report)
    return report.passed


def _start(config, runtime):
    """Start the engine of ``runtime`` once; it is stopped when the run ends."""
    if runtime in _started or os.environ.get(_variable(runtime)):
        return
    if reason := missing(runtime):
        pytest.skip(reason)
    # Short: paths of Unix sockets end at 108 bytes.
    found = TestEngine(
        runtime, Path(tempfile.mkdtemp(prefix="kici-")) / f"{runtime[0]}{os.getpid()}"
    )
    _started[runtime] = found
    config.add_cleanup(lambda: _stop(found))
    found.start()
    found.build_image()
    os.environ[_variable(runtime)] = str(found.directory)


def _stop(found):
    os.environ.pop(_variable(found.runtime), None)
    found.stop()
    found.clean()


def _run_child(item):
    # What a test ignores must be ignored at the end of its process too.
    ignored = [
        option
        for marker in item.iter_markers("filterwarnings")
        for argument in marker.args
        for option in ("-W", argument)
    ]
    program = str(ROOT / "tests" / "support" / "patched_pytest.py")
    done = subprocess.run(
        [sys.executable, program, "--all", "-p", "no:cacheprovider", *ignored, item.nodeid],
        cwd=ROOT,
        env={**os.environ, _PATCHED: "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=_CHILD_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(done.stdout[-6000:] + done.stderr[-2000:], pytrace=False)
