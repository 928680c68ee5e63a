"""Real engines for this directory; tests run in child processes of the run that was asked for.

The outer process starts each engine once and runs the tests of one file on one engine in one
child, the two engines beside each other; a child is patched by gevent as the pool's process is
(the docker package is cooperative only so, and it must not reach other tests), or, where a
module says ``IN_NAMESPACE``, in the engine's network namespace. Reports come back through a
file and are told as if run here.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
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
#: Engine -> its lane: a thread that runs one file after the other; they mostly wait.
_lanes = {}
#: (file, engine) -> what the lane makes of it.
_runs = {}
_children = set()


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
        for when, outcome, duration, text in _reports[item.nodeid]:
            _report(item, when, lambda outcome=outcome, text=text: _replay(outcome, text), duration)
    _report(item, "teardown", lambda: None)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _report(item, when, action, duration=None):
    call = CallInfo.from_call(action, when=when)
    report = item.ihook.pytest_runtest_makereport(item=item, call=call)
    if duration is not None:
        report.duration = duration
    item.ihook.pytest_runtest_logreport(report=report)
    return report.passed


def _replay(outcome, text):
    if outcome == "failed":
        pytest.fail(text, pytrace=False)
    elif outcome == "skipped":
        pytest.skip(text)


def _run_once(item, runtime):
    """Wait for the child of this file and engine; at the first test all of them are lined up,
    one lane an engine."""
    if item.nodeid in _reports:
        return
    if reason := missing(runtime):
        pytest.skip(reason)
    if not _lanes:
        item.config.add_cleanup(_end_lanes)
    for one in item.session.items:
        if one.get_closest_marker("engine") and Path(__file__).parent in one.path.parents:
            _line_up(one, item.session.items)
    _runs[item.path, runtime].result()


def _line_up(item, items):
    runtime = item.callspec.params["engine"]
    if (item.path, runtime) in _runs or item.get_closest_marker("skip") or missing(runtime):
        return
    group = [
        one for one in items if one.path == item.path and one.callspec.params["engine"] == runtime
    ]
    if runtime not in _lanes:
        _lanes[runtime] = ThreadPoolExecutor(1, thread_name_prefix=runtime)
        # An engine that does not start fails the tests that wait for it.
        _runs[runtime] = _lanes[runtime].submit(_start, runtime)
    _runs[item.path, runtime] = _lanes[runtime].submit(_run_started, group, runtime)


def _run_started(group, runtime):
    _runs[runtime].result()
    _run_child(group, runtime)


def _end_lanes():
    """The run is over, perhaps too early: nothing that it started goes on."""
    for lane in _lanes.values():
        lane.shutdown(wait=False, cancel_futures=True)
    for child in list(_children):
        child.terminate()
    for lane in _lanes.values():
        lane.shutdown(wait=True)
    for found in _started.values():
        _stop(found)


def _start(runtime):
    """Start the engine of ``runtime`` once; it is stopped when the run ends."""
    if runtime in _started or os.environ.get(_variable(runtime)):
        return
    # Short: paths of Unix sockets end at 108 bytes.
    found = TestEngine(
        runtime, Path(tempfile.mkdtemp(prefix="kici-")) / f"{runtime[0]}{os.getpid()}"
    )
    _started[runtime] = found
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
        done = _run(
            [*program, "--all", "-p", "no:cacheprovider", *options, *names],
            {**os.environ, _REPORTS: reports.name, "PYTHONPATH": str(ROOT)},
        )
        told = defaultdict(list)
        for line in reports:
            name, *report = json.loads(line)
            told[name].append(report)
    output = done.stdout[-6000:] + done.stderr[-2000:]
    for name in names:
        silent = ("call", "failed", 0.0, f"the child told nothing: {output}")
        _reports[name] = told[name] or [silent]
    if done.returncode not in (0, 1) or (done.returncode and "failed" not in str(told)):
        _reports[names[-1]].append(("call", "failed", 0.0, output))


def _run(command, environ):
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    _children.add(child)
    try:
        stdout, stderr = child.communicate(timeout=_CHILD_TIMEOUT_S)
    finally:
        child.kill()
        child.wait()
        _children.discard(child)
    return subprocess.CompletedProcess(command, child.returncode, stdout, stderr)


# --- a child ---------------------------------------------------------------------------


def pytest_runtest_logreport(report):
    path = os.environ.get(_REPORTS)
    if path and (report.when == "call" or not report.passed):
        text = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longreprtext
        sections = "".join(f"\n--- {name} ---\n{body}" for name, body in report.sections)
        told = f"{text[-6000:]}{sections[-3000:]}"
        row = (report.nodeid, report.when, report.outcome, report.duration, told)
        with open(path, "a") as file:
            file.write(json.dumps(row) + "\n")
