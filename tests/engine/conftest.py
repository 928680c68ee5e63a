"""Real engines for this directory, and each test in a process patched as the pool's is.

The docker package is cooperative only under monkey patching, which must not reach the other
tests: a test here is run again, alone, in a child that patches first. The engines are
started once, in the outer process, and found through the environment.
"""

import os
import subprocess
import sys

import pytest

from tests.support.container_engine import ROOT, RUNTIMES, TestEngine, missing

_PATCHED = "KICITEST_PATCHED"


def _variable(runtime):
    return f"KICITEST_ENGINE_{runtime.upper()}"


@pytest.fixture(scope="session", params=RUNTIMES)
def engine(request, tmp_path_factory):
    """A running engine with the test image in it."""
    runtime = request.param
    if given := os.environ.get(_variable(runtime)):
        yield TestEngine(runtime, given)
        return
    if reason := missing(runtime):
        pytest.skip(reason)
    # Short: paths of Unix sockets end at 108 bytes.
    directory = tmp_path_factory.mktemp("eng") / f"{runtime[0]}{os.getpid()}"
    found = TestEngine(runtime, directory)
    found.start()
    try:
        found.build_image()
        os.environ[_variable(runtime)] = str(directory)
        yield found
    finally:
        os.environ.pop(_variable(runtime), None)
        found.stop()
        found.clean()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run the test in a patched child, unless this is one."""
    if os.environ.get(_PATCHED) or pyfuncitem.get_closest_marker("engine") is None:
        return None
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "tests" / "support" / "patched_pytest.py"),
            "--all",
            "-p",
            "no:cacheprovider",
            pyfuncitem.nodeid,
        ],
        cwd=ROOT,
        env={**os.environ, _PATCHED: "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(done.stdout[-6000:] + done.stderr[-2000:], pytrace=False)
    return True
