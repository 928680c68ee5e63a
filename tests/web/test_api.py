"""``/api/v1``: jobs, agents, refusals and the two streams."""

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from kici.contracts.link.views import AgentView, DeclineView, JobLogTail, LogWatch, StepView
from tests.support.web_child import (
    COORDINATOR,
    DEADLINE_S,
    WebChild,
    capacity,
    finished,
    job,
    slot,
    until,
)


def step(index: int, name: str, state: str, ended: bool) -> StepView:
    now = time.time()
    return StepView(
        index=index, name=name, state=state, started_at=now - 5, ended_at=now if ended else None
    )


@contextmanager
def stream(web: WebChild, path: str, **headers: str) -> Iterator[Iterator[tuple[str, dict]]]:
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=DEADLINE_S)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET", path, headers=named)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        yield _events(answer)
    finally:
        connection.close()


def _events(answer: http.client.HTTPResponse) -> Iterator[tuple[str, dict]]:
    name = ""
    while line := answer.readline().decode():
        if line.startswith("event: "):
            name = line[7:].strip()
        elif line.startswith("data: "):
            yield name, json.loads(line[6:])


def ids(web: WebChild, path: str, n: int, **headers: str) -> list[tuple[str, list[str]]]:
    """``(id, lines)`` of the next ``n`` log events."""
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=DEADLINE_S)
    try:
        connection.request("GET", path, headers=headers)
        answer, seen, known = connection.getresponse(), [], ""
        while len(seen) < n:
            line = answer.readline().decode().rstrip()
            if line.startswith("id: "):
                known = line[4:]
            elif line.startswith("data: "):
                seen.append((known, json.loads(line[6:])["lines"]))
        return seen
    finally:
        connection.close()


def tail(job_id: str, *lines: str) -> JobLogTail:
    return JobLogTail(
        key=job(1, job_id).key, step_index=0, stream="stdout", timestamp=1.0, lines=lines
    )


def test_jobs_show_the_running_step_and_the_elapsed_time(web: WebChild) -> None:
    steps = (step(0, "checkout", "success", True), step(1, "make", "running", False))
    web.pool.tell(job(1, "j-1", steps=steps))
    web.pool.tell(finished(2, "j-0", "failed", error="exit code 2"))
    body = web.eventually("/api/v1/jobs", lambda b: b["jobs"] and b["history"])
    (running,) = body["jobs"]
    assert (running["step"], running["status"], running["coordinator"]) == (
        "make",
        "running",
        COORDINATOR,
    )
    assert 9_000 < running["durationMs"] < 60_000
    assert [(e["jobId"], e["status"], e["error"]) for e in body["history"]] == [
        ("j-0", "failed", "exit code 2")
    ]


def test_the_limit_of_history_is_obeyed_and_junk_means_the_default(web: WebChild) -> None:
    for number in range(3):
        web.pool.tell(finished(number + 1, f"j-{number}"))
    web.eventually("/api/v1/jobs", lambda b: len(b["history"]) == 3)
    body = web.json("/api/v1/jobs?limit=1")
    assert (len(body["history"]), body["historyTruncated"]) == (1, True)
    assert len(web.json("/api/v1/jobs?limit=-7")["history"]) == 0
    assert len(web.json("/api/v1/jobs?limit=x")["history"]) == 3


def test_agents_come_and_go(web: WebChild) -> None:
    view = AgentView(
        rev=1,
        agent_id="a-1",
        state="idle",
        since=1.0,
        scaler_name="pi",
        labels=("linux",),
        active_jobs=0,
        max_concurrency=1,
        version="0.9.1",
        hostname="pi",
        reason="",
    )
    web.pool.tell(view)
    body = web.eventually("/api/v1/agents", lambda b: b["agents"])
    assert body["agents"][0]["since"] == "1970-01-01T00:00:01.000Z"


def test_refusals_are_listed_newest_first(web: WebChild) -> None:
    for rev, reason in enumerate(("No scaler for gpu", "Worker is draining"), 1):
        web.pool.tell(DeclineView(rev=rev, at=1.0, job_name="b", labels=("gpu",), reason=reason))
    body = web.eventually("/api/v1/refusals", lambda b: len(b["refusals"]) == 2)
    assert body["refusals"][0]["reason"] == "Worker is draining"


def test_a_change_is_streamed(web: WebChild) -> None:
    with stream(web, "/api/v1/events") as events:
        assert next(events)[0] == "change"
        web.pool.tell(capacity(1, slot("a", 1)))
        while True:
            name, data = next(events)
            if name == "change" and data["activeJobs"] == 1:
                return


def test_a_jobs_log_is_watched_while_somebody_reads_it(web: WebChild) -> None:
    web.pool.tell(job(1, "j-1"))
    web.eventually("/api/v1/jobs", lambda b: b["jobs"])
    with stream(web, "/api/v1/jobs/j-1/log") as events:
        watch, _fds = web.pool.hear(LogWatch)
        assert watch.job_ids == ("j-1",)
        web.pool.tell(tail("j-1", "plain", "\x1b[31mred <b>\x1b[0m"))
        name, data = next(events)
        assert name == "log"
        assert data["lines"] == ["plain", "\x1b[31mred <b>\x1b[0m"]
        assert data["html"] == ["plain", '<span class="c1">red &lt;b&gt;</span>']
        web.pool.tell(finished(2, "j-1"))
        assert next(events) == ("end", {"jobId": "j-1"})
    watch, _fds = web.pool.hear(LogWatch)
    assert watch.job_ids == ()


def test_a_reader_that_comes_again_gets_no_line_twice(web: WebChild) -> None:
    path = "/api/v1/jobs/j-1/log"
    web.pool.tell(job(1, "j-1"))
    web.eventually("/api/v1/jobs", lambda b: b["jobs"])
    with stream(web, path) as events:
        web.pool.hear(LogWatch)
        for line in ("one", "two"):
            web.pool.tell(tail("j-1", line))
            next(events)
    (first, one), (second, two) = ids(web, path, 2)
    assert (one, two) == (["one"], ["two"])
    assert ids(web, path, 1, **{"Last-Event-ID": first}) == [(second, ["two"])]
    boot = first.partition(".")[0]
    for unknown in ("", "x", "another-process.7", boot + ".x", boot + "." + "9" * 5000):
        assert ids(web, path, 2, **{"Last-Event-ID": unknown}) == [(first, one), (second, two)]


def test_a_fresh_process_does_not_end_the_log_of_a_job_it_was_not_told_of(web: WebChild) -> None:
    web.pool.tell(job(1, "j-1"))
    web.eventually("/api/v1/jobs", lambda b: b["jobs"])
    web.restart()
    web.pool.tell(capacity(2))  # was on its way when the old one died
    with stream(web, "/api/v1/jobs/j-1/log") as events:
        web.pool.hear(LogWatch)
        web.pool.tell(job(1, "j-1"))
        web.pool.tell(tail("j-1", "line"))
        assert next(events)[0] == "log"
        web.pool.tell(finished(3, "j-1"))
        assert next(events)[0] == "end"


def test_the_log_of_a_job_that_nobody_knows_ends(web: WebChild) -> None:
    web.pool.tell(capacity(1))
    with stream(web, "/api/v1/jobs/j-1/log") as events:
        assert next(events) == ("end", {"jobId": "j-1"})


def test_a_restarted_pool_is_told_again_what_is_watched(web: WebChild) -> None:
    web.pool.tell(job(1, "j-1"))
    web.eventually("/api/v1/jobs", lambda b: b["jobs"])
    with stream(web, "/api/v1/jobs/j-1/log"):
        web.pool.hear(LogWatch)
        web.pool.restart()
        watch, _fds = web.pool.hear(LogWatch)
        assert watch.job_ids == ("j-1",)


def test_streams_are_bounded_and_free_their_place(web: WebChild) -> None:
    open_streams = []
    try:
        for _ in range(32):
            connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=DEADLINE_S)
            connection.request("GET", "/api/v1/events")
            open_streams.append((connection, connection.getresponse()))
        assert web.request("GET", "/api/v1/events")[0] == 503
    finally:
        for connection, answer in open_streams:
            answer.close()
            connection.close()
    rev = 0

    def probe() -> int:
        nonlocal rev
        rev += 1
        web.pool.tell(capacity(rev))  # a write finds out which readers are gone
        connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=DEADLINE_S)
        connection.request("GET", "/api/v1/events")
        status = connection.getresponse().status
        connection.close()
        return status

    until(probe, lambda status: status == 200)
