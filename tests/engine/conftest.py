"""Real engines for this directory; tests run in child processes of the run that was asked for.

The outer process starts each engine once and runs the tests of one file on one engine in one
child: patched by gevent as the pool's process is (the docker package is cooperative only so,
and it must not reach other tests), or, where a module says ``IN_NAMESPACE``, in the engine's
network namespace. Reports come back through a file and are told as if run here.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import pytest
from _pytest.runner import CallInfo

from tests.support.container_engine import ROOT, RUNTIMES, TestEngine, missing

#: In a child: where its reports go.
_REPORTS = "KICITEST_REPORTS"
#: Of one file on one engine; each of its tests has its own limit.
_CHILD_TIMEOUT_S = 1200
_started = {}
_reports = {}


def _variable(runtime):
    return f"KICITEST_ENGINE_{runtime.upper()}"


@pytest.fixture(scope="session", params=RUNTIMES)
def engine(request):
    """A running engine with the test image in it."""
    return TestEngine(request.param, os.environ[_variable(request.param)])


def pytest_collection_modifyitems(items):
    """The limit counts in the child: here, the first test of a file waits for all of them."""
    if _REPORTS not in os.environ:
        for item in items:
            if Path(__file__).parent in item.path.parents and item.get_closest_marker("engine"):
                item.add_marker(pytest.mark.timeout(0), append=False)


# --- the outer process -----------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    """Tell what the child of ``item`` reported, unless this is one or it is to be skipped."""
    # The hook hears of every test of the run; other folders start engines of their own.
    ours = Path(__file__).parent in item.path.parents and item.get_closest_marker("engine")
    if _REPORTS in os.environ or not ours or item.get_closest_marker("skip"):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    runtime = item.callspec.params["engine"]
    if _report(item, "setup", lambda: _run_once(item, runtime)):
        for when, outcome, text in _reports[item.nodeid]:
            _report(item, when, lambda outcome=outcome, text=text: _replay(outcome, text))
    _report(item, "teardown", lambda: None)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _report(item, when, action):
    call = CallInfo.from_call(action, when=when)
    report = item.ihook.pytest_runtest_makereport(item=item, call=call)
    item.ihook.pytest_runtest_logreport(report=report)
    return report.passed


def _replay(outcome, text):
    if outcome == "failed":
        pytest.fail(text, pytrace=False)
    elif outcome == "skipped":
        pytest.skip(text)


def _run_once(item, runtime):
    """Start the engine and run the tests of this file on it, all of them at the first."""
    if item.nodeid in _reports:
        return
    _start(item.config, runtime)
    group = [
        one
        for one in item.session.items
        if one.path == item.path and one.callspec.params["engine"] == runtime
    ]
    _run_child(group, runtime)


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


def _run_child(group, runtime):
    # What a test ignores must be ignored at the end of its process too.
    ignored = {
        option: None
        for item in group
        for marker in item.iter_markers("filterwarnings")
        for option in marker.args
    }
    options = [word for option in ignored for word in ("-W", option)]
    program = [sys.executable, str(ROOT / "tests" / "support" / "patched_pytest.py")]
    if getattr(group[0].module, "IN_NAMESPACE", False):
        program = [*TestEngine(runtime, os.environ[_variable(runtime)]).enter, sys.executable]
        program += ["-m", "pytest"]
    names = [item.nodeid for item in group]
    with tempfile.NamedTemporaryFile("r", prefix="kici-reports-") as reports:
        done = subprocess.run(
            [*program, "--all", "-p", "no:cacheprovider", *options, *names],
            cwd=ROOT,
            env={**os.environ, _REPORTS: reports.name, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=_CHILD_TIMEOUT_S,
            check=False,
        )
        told = defaultdict(list)
        for line in reports:
            name, *report = json.loads(line)
            told[name].append(report)
    output = done.stdout[-6000:] + done.stderr[-2000:]
    for name in names:
        _reports[name] = told[name] or [("call", "failed", f"the child told nothing: {output}")]
    if done.returncode not in (0, 1) or (done.returncode and "failed" not in str(told)):
        _reports[names[-1]].append(("call", "failed", output))


# --- a child ---------------------------------------------------------------------------


def pytest_runtest_logreport(report):
    path = os.environ.get(_REPORTS)
    if path and (report.when == "call" or not report.passed):
        text = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longreprtext
        sections = "".join(f"\n--- {name} ---\n{body}" for name, body in report.sections)
        row = (report.nodeid, report.when, report.outcome, f"{text[-6000:]}{sections[-3000:]}")
        with open(path, "a") as file:
            file.write(json.dumps(row) + "\n")
