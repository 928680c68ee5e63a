"""The status page in a real Chromium: live, readable, keyboard, no JavaScript, no finding."""

import os
import time
from pathlib import Path

import pytest

from kici.contracts.link.lifecycle import ChildState, DrainRequest, DrainState, UndrainRequest
from kici.contracts.link.views import AgentView, DeclineView, JobLogTail, LogWatch, StepView
from tests.support.browser import Browser, Driver
from tests.support.web_child import (
    WebChild,
    capacity,
    finished,
    job,
    peer_state,
    scaler_slots,
    secret,
    slot,
)

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
#: KICI_SCREENSHOTS=1 renews the pictures of the documentation.
IMAGES = ROOT / ("docs/img" if os.environ.get("KICI_SCREENSHOTS") else "build/img")
TAB, ENTER = "\ue004", "\ue007"
SECOND = "wss://backup.example.org/ws/peer"
OUTCOMES = ["success", "success", "failed", "success", "cancelled", "success"] * 2


def url(web: WebChild, path: str = "/") -> str:
    return f"http://127.0.0.1:{web.port}{path}"


def agent(agent_id: str, state: str, rev: int = 1) -> AgentView:
    return AgentView(
        rev=rev,
        agent_id=agent_id,
        state=state,
        since=time.time() - 95,
        scaler_name="pi",
        labels=("linux", "arm64"),
        active_jobs=int(state == "busy"),
        max_concurrency=1,
        version="0.9.1",
        hostname="pi-7",
        reason="",
    )


def step(index: int, name: str, state: str) -> StepView:
    begun = None if state == "pending" else time.time() - 30
    ended = time.time() if state == "success" else None
    return StepView(index=index, name=name, state=state, started_at=begun, ended_at=ended)


def idle(web: WebChild) -> None:
    now = time.time()
    web.peer.tell(peer_state(1, "connected", since=now - 7262))
    web.pool.tell(capacity(1, scalers=(scaler_slots(), scaler_slots("docker", kind="container"))))
    for number, outcome in enumerate(OUTCOMES):
        ended = now - 3600 + 240 * number
        took = 20 + 37 * (number * 7 % 11)
        error = "exit code 2 in step make" if outcome == "failed" else None
        web.pool.tell(
            finished(
                number + 1,
                f"old-{number}",
                outcome,
                job_name=("build", "test", "package")[number % 3],
                accepted_at=ended - took - 2,
                started_at=ended - took,
                completed_at=ended,
                error=error,
            )
        )
    for number, name in enumerate(("supervisor", "peer", "pool", "web")):
        web.supervisor.tell(
            ChildState(
                rev=number + 1,
                name=name,
                pid=100 + number,
                state="RUNNING",
                n_restarts=0,
                since=now - 7300,
                reason="",
            )
        )
    web.eventually("/status", lambda b: len(b["recentJobs"]) == 12 and len(b["processes"]) == 4)


def busy(web: WebChild) -> None:
    idle(web)
    steps = (
        step(0, "checkout", "success"),
        step(1, "make all", "running"),
        step(2, "package", "pending"),
    )
    web.pool.tell(job(100, "j-1", steps=steps))
    web.pool.tell(job(101, "j-2", "queued", job_name="deploy", started_at=None, agent_id=None))
    web.pool.tell(agent("agent-1", "busy"))
    web.pool.tell(agent("agent-2", "idle"))
    web.pool.tell(
        capacity(
            2,
            slot("agent-1", 1),
            slot("agent-2"),
            n_queued_jobs=1,
            scalers=(scaler_slots(active=2), scaler_slots("docker", kind="container")),
        )
    )
    web.eventually("/status", lambda b: b["activeJobs"] == 1)


def disconnected(web: WebChild) -> None:
    idle(web)
    reason = "Connection refused (ws://127.0.0.1:1/ws/peer)"
    web.peer.tell(
        peer_state(
            2, "disconnected", reason=reason, attempt=7, last_connected_at=1.0 + time.time() - 600
        )
    )
    broken = scaler_slots("docker", kind="container", healthy=False, reason="no Docker socket")
    web.pool.tell(capacity(3, scalers=(scaler_slots(), broken)))
    web.pool.tell(
        DeclineView(
            rev=1,
            at=time.time() - 70,
            job_name="train",
            labels=("gpu",),
            reason="No scaler here serves the labels gpu",
        )
    )
    web.eventually("/status", lambda b: b["coordinatorConnection"] == "disconnected")


def draining(web: WebChild) -> None:
    busy(web)
    web.supervisor.tell(
        DrainState(
            rev=2,
            draining=True,
            stopping=False,
            reason="kernel update",
            deadline_at=time.time() + 1800,
        )
    )
    web.eventually("/status", lambda b: b["draining"])


STATES = {"idle": idle, "busy": busy, "disconnected": disconnected, "draining": draining}
PILL = {
    "idle": "connected",
    "busy": "connected",
    "disconnected": "disconnected",
    "draining": "draining",
}


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("state", STATES)
def test_the_page_is_sound_in_every_state(
    web: WebChild, browser: Browser, axe: str, state: str, width: int
) -> None:
    STATES[state](web)
    browser.resize(width, 900)
    browser.open(url(web))
    browser.until_text("#live", "Live")
    assert browser.text(".pill") == PILL[state]
    overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.run(overflow) <= 0
    for scheme in ("light", "dark"):
        browser.colour_scheme(scheme)
        assert findings(browser, axe) == []
    browser.colour_scheme("light")
    browser.screenshot(IMAGES / f"status-{state}-{width}.png")
    assert browser.console() == []


def findings(browser: Browser, axe: str) -> list[str]:
    """What axe-core calls serious or critical."""
    browser.run(axe)
    result = browser.run_async(
        "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']})"
        ".then(r => done(r.violations.map(v => [v.impact, v.id, v.nodes.map(n => n.html)])))"
    )
    return [str(entry) for entry in result if entry[0] in ("serious", "critical")]


def test_the_page_follows_the_worker_without_reloading(web: WebChild, browser: Browser) -> None:
    browser.open(url(web))
    browser.until_text("#live", "Live")
    browser.run("window.untouched = true")
    web.peer.tell(peer_state(1, "connected"))
    browser.until_text(".pill", "connected")
    web.pool.tell(job(1, "j-1", job_name="<script>alert(1)</script>"))
    browser.until_text("#jobs", "<script>alert(1)</script>")
    web.pool.tell(finished(2, "j-1", "failed"))
    browser.until_text("#history", "failed")
    assert browser.run("return window.untouched") is True


def test_an_open_log_stays_open_and_shows_colours(web: WebChild, browser: Browser) -> None:
    web.pool.tell(job(1, "j-1"))
    web.eventually("/api/v1/jobs", lambda b: b["jobs"])
    browser.open(url(web))
    browser.until_text("#live", "Live")
    browser.click("details[data-log] summary")
    web.pool.hear(LogWatch)
    tell = lambda *lines: web.pool.tell(  # noqa: E731 - three uses in one test
        JobLogTail(key=job(1, "j-1").key, step_index=0, stream="stdout", timestamp=1.0, lines=lines)
    )
    tell("\x1b[32mgreen\x1b[0m <img src=x onerror=alert(1)>")
    browser.until_text("pre.log", "green <img src=x")
    assert browser.text("pre.log .c2") == "green"
    web.pool.tell(job(2, "j-1", n_log_lines=9, attempt=2))  # the section is drawn again
    browser.until_text("#jobs", "attempt 2")
    tell("second line")
    text = browser.until_text("pre.log", "second line")
    assert text.startswith("green")
    assert browser.console() == []


def test_drain_and_undrain_by_button(web: WebChild, browser: Browser) -> None:
    browser.open(url(web))
    browser.until_text("#live", "Live")
    browser.type("#reason", "new kernel")
    browser.type("#deadline", "30m")
    browser.click("#drain-button")
    wish = web.supervisor.hear(DrainRequest)[0]
    assert (wish.reason, wish.deadline_s) == ("new kernel", 1800.0)
    web.supervisor.tell(DrainState(rev=2, draining=True, stopping=False, reason=wish.reason))
    browser.until_text("#drain-button", "Take jobs again")
    browser.click("#drain-button")
    web.supervisor.hear(UndrainRequest)


def test_a_refused_wish_is_shown(web: WebChild, browser: Browser) -> None:
    browser.open(url(web))
    browser.until_text("#live", "Live")
    browser.type("#deadline", "soon")
    browser.click("#drain-button")
    browser.until_text("#live", "expected a duration")


def test_the_admin_token_is_asked_for_once(driver: Driver, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    child = WebChild(tmp_path / "data", admin_token=secret("s3cret"))
    browser = driver.browser(tmp_path / "profile")
    try:
        browser.open(url(child))
        browser.until_text("#live", "Live")
        browser.type("#token", "s3cret")
        browser.click("#drain-button")
        child.supervisor.hear(DrainRequest)
        child.supervisor.tell(DrainState(rev=2, draining=True, stopping=False, reason=""))
        browser.until_text("#drain-button", "Take jobs again")
        browser.click("#drain-button")
        child.supervisor.hear(UndrainRequest)
        assert "s3cret" not in browser.run("return document.cookie + location.href")
    finally:
        browser.close()
        child.close()


def test_explanations_are_reached_by_keyboard(web: WebChild, browser: Browser) -> None:
    browser.open(url(web))
    browser.until_text("#live", "Live")
    browser.press(TAB)
    shown = (
        "return getComputedStyle(document.activeElement.querySelector('[role=tooltip]')).display"
    )
    assert browser.run(shown) == "block"
    assert browser.run("return document.activeElement.getAttribute('aria-label')")


def test_a_lost_worker_is_said(web: WebChild, browser: Browser) -> None:
    browser.open(url(web))
    browser.until_text("#live", "Live")
    web.process.kill()
    browser.until_text("#live", "lost")


def test_the_page_is_complete_without_javascript(
    driver: Driver, web: WebChild, tmp_path: Path
) -> None:
    busy(web)
    browser = driver.browser(tmp_path / "plain", javascript=False)
    try:
        browser.open(url(web))
        assert "make all" in browser.text("#jobs")
        assert "exit code 2" in browser.text("#history")
        browser.type("#reason", "by form")
        browser.click("#drain-button")
        assert web.supervisor.hear(DrainRequest)[0].reason == "by form"
        assert "Maintenance" in browser.text("#drain")  # back on the page
        browser.open(url(web, "/jobs/j-1"))
        assert "ci / build" in browser.text("h1")
    finally:
        browser.close()


def test_everything_together_is_under_60_kb(web: WebChild) -> None:
    draining(web)
    for number in range(30):
        web.pool.tell(finished(200 + number, f"more-{number}", "failed", error="x" * 60))
    web.eventually("/status", lambda b: b["recentJobs"][0]["jobId"] == "more-29")
    paths = ["/", "/assets/page.css", "/assets/page.js", "/assets/icon.svg"]
    assert sum(len(web.request("GET", path)[2]) for path in paths) < 60_000
