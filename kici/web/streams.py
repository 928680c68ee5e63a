"""Server-sent events. A stream ends when its client is gone: a comment every
``HEARTBEAT_S`` finds that out."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import gevent
import msgspec
from flask import Response, request

from kici.contracts.link.views import JobLogTail, JobView
from kici.shell.http import STREAM_KEY
from kici.web import summary
from kici.web.ansi import Style, to_html
from kici.web.desk import Desk
from kici.web.feed import Full, Subscription
from kici.web.replies import reply

HEARTBEAT_S = 15.0
#: Changes are told at most this often: a reader fetches what it shows anew each time.
PACE_S = 1.0

Stream = tuple[ExitStack, Iterator[bytes]]


def event(name: str, data: Any) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"


def answer(open_stream: Callable[[], Stream | None]) -> Response:
    """A stream as the response; 503 when there are too many, 403 for another site's page
    (it could not read the stream, but hold one of the few)."""
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return reply({"error": "cross-site request refused"}, 403)
    stream = open_stream()
    if stream is None:
        busy = reply({"error": "too many streams"}, 503)
        busy.headers["Retry-After"] = "10"
        return busy
    if (no_deadline := request.environ.get(STREAM_KEY)) is not None:
        no_deadline()
    stack, chunks = stream
    response = Response(chunks, content_type="text/event-stream; charset=utf-8")
    response.headers["X-Accel-Buffering"] = "no"
    response.call_on_close(stack.close)
    return response


def change_stream(desk: Desk) -> Stream | None:
    return _subscribed(desk, None, lambda reader: _changes(desk, reader))


def log_stream(desk: Desk, job_id: str) -> Stream | None:
    return _subscribed(desk, job_id, lambda reader: _log(desk, job_id, reader))


def _subscribed(desk: Desk, job_id: str | None, chunks: Any) -> Stream | None:
    stack = ExitStack()
    try:
        reader = stack.enter_context(desk.feed.subscribe(job_id))
    except Full:
        return None
    return stack, chunks(reader)


def _changes(desk: Desk, reader: Subscription) -> Iterator[bytes]:
    seen = -1
    while True:
        if desk.projection.version != seen:
            seen = desk.projection.version
            yield event("change", _headline(desk, seen))
            gevent.sleep(PACE_S)
        elif not reader.wait(HEARTBEAT_S):
            yield b": still here\n\n"


def _headline(desk: Desk, version: int) -> dict[str, Any]:
    links = summary.links(desk)
    return {
        "version": version,
        "coordinatorConnection": links[0].state if links else "disconnected",
        "draining": summary.is_draining(desk),
        "activeJobs": summary.n_active_jobs(desk),
    }


def _log(desk: Desk, job_id: str, reader: Subscription) -> Iterator[bytes]:
    style = Style()
    yield b": log\n\n"
    while True:
        ended = not _is_open(desk, job_id)
        if reader.n_missed:
            yield event("missed", {"lines": reader.n_missed})
            reader.n_missed = 0
        for tail in reader.take_tails():
            yield event("log", _log_data(tail, style))
        if ended:
            yield event("end", {"jobId": job_id})
            return
        if not reader.wait(HEARTBEAT_S):
            yield b": still here\n\n"


def _log_data(tail: JobLogTail, style: Style) -> dict[str, Any]:
    return {
        "step": tail.step_index,
        "stream": tail.stream,
        "at": tail.timestamp,
        "lines": tail.lines,
        "html": [to_html(line, style) for line in tail.lines],
    }


def _is_open(desk: Desk, job_id: str) -> bool:
    jobs = desk.projection.all(JobView, time.time())
    return any(job.key.job_id == job_id for job in jobs)
