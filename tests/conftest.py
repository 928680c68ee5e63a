"""Rules for every test: real parts only where asked for, nothing left behind."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: Markers whose tests need more than Python: skipped with a reason unless ``--all``.
REAL_PARTS = {
    "engine": "needs a real container engine: make test-all",
    "systemd": "needs a booted systemd: make test-all",
    "browser": "needs Chromium: make test-all",
    "debian": "needs Debian's packaging tools: make test-all",
    "minutes": "waits for minutes: make test-all",
}

#: Test -> its outcome over all its parameters.
_results: dict[str, str] = {}


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="run the tests that need real parts too")
    parser.addoption("--no-skips", action="store_true", help="a skipped test fails the run (CI)")
    parser.addoption("--results", help="write {test: outcome} as JSON, for docs/conformance.py")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--all"):
        return
    for item in items:
        for marker, reason in REAL_PARTS.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A worker's report must be sendable: some tests log lone surrogates on purpose."""
    report = (yield).get_result()
    report.sections = [
        (name, text.encode("utf-8", "replace").decode()) for name, text in report.sections
    ]


def pytest_runtest_logreport(report):
    """Seen by the controller, whether tests run in this process or in workers (``-n``)."""
    file, *_classes, name = report.nodeid.partition("[")[0].split("::")
    test = f"{file}::{name}"
    if report.failed:
        _results[test] = "failed"
    elif report.skipped:
        _results.setdefault(test, "skipped")
    elif report.when == "call" and _results.get(test) != "failed":
        _results[test] = "passed"


def pytest_sessionfinish(session, exitstatus):
    results = _results
    if hasattr(session.config, "workerinput"):
        return
    path = session.config.getoption("--results")
    if path:
        known = json.loads(Path(path).read_text()) if Path(path).exists() else {}
        known.update({k: v for k, v in results.items() if v != "skipped" or k not in known})
        Path(path).write_text(json.dumps(known, indent=1, sort_keys=True))
    skipped = [name for name, outcome in results.items() if outcome == "skipped"]
    if skipped and session.config.getoption("--no-skips") and exitstatus == 0:
        session.exitstatus = 1


def _children() -> set[int]:
    shown = subprocess.run(
        ["ps", "-o", "pid=,comm=", "--ppid", str(os.getpid())], capture_output=True, text=True
    ).stdout
    return {int(line.split()[0]) for line in shown.splitlines() if not line.endswith(" ps")}


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind():
    """At the end no child of the test run is alive."""
    before = _children()
    yield
    left = _children() - before
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"processes left behind: {left}"
