"""Server-sent events. A stream ends when its client is gone: a comment every
``HEARTBEAT_S`` finds that out."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import gevent
import msgspec
from flask import Response, request

from kici.contracts.link.jobs import OutboxState
from kici.contracts.link.views import JobLogTail, JobView, PoolCapacity
from kici.shell.http import STREAM_KEY
from kici.web import summary
from kici.web.ansi import Style, to_html
from kici.web.desk import Desk
from kici.web.door import CROSS_SITE
from kici.web.feed import Full, Subscription
from kici.web.history import KEEP
from kici.web.replies import reply, respond

HEARTBEAT_S = 15.0
#: Changes are told at most this often: a reader fetches what it shows anew each time.
PACE_S = 1.0
#: A snapshot that was asked for comes in milliseconds; a machine that is thrashing takes longer.
SETTLE_S = 2.0
#: Of a piece's number; more is nobody's.
_DIGITS = 16

Stream = tuple[ExitStack, Iterator[bytes]]


def event(name: str, data: Any, number: str = "") -> bytes:
    """``number``: what a reader that comes again says it has (``Last-Event-ID``)."""
    known = f"id: {number}\n" if number else ""
    return f"{known}event: {name}\ndata: ".encode() + msgspec.json.encode(data) + b"\n\n"


def answer(open_stream: Callable[[], Stream | None]) -> Response:
    """A stream as the response; 503 when there are too many, 403 for another site's page
    (it could not read the stream, but hold one of the few)."""
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return respond(CROSS_SITE)
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
    return _subscribed(desk, lambda reader: _changes(desk, reader))


def log_stream(desk: Desk, job_id: str) -> Stream | None:
    after = _number(desk, request.headers.get("Last-Event-ID", ""))
    return _subscribed(desk, lambda reader: _log(desk, job_id, reader), job_id, after)


def _number(desk: Desk, last_id: str) -> int:
    """The last piece that a reader has; 0 when it was none of this process."""
    boot, _, number = last_id.rpartition(".")
    known = boot == desk.history.boot and number.isdecimal() and len(number) < _DIGITS
    return int(number) if known else 0


def _subscribed(
    desk: Desk, chunks: Any, job_id: str | None = None, after: int = 0
) -> Stream | None:
    stack = ExitStack()
    try:
        reader = stack.enter_context(desk.feed.subscribe(job_id, after))
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
        now = time.time()
        ended = _has_ended(desk, job_id, now)
        if reader.n_missed:
            yield event("missed", {"lines": reader.n_missed})
            reader.n_missed = 0
        for piece in reader.take_tails():
            number = f"{desk.history.boot}.{piece.number}"
            yield event("log", _log_data(piece.tail, style), number)
        if ended:
            yield event("end", {"jobId": job_id})
            return
        if not reader.wait(HEARTBEAT_S if _is_told(desk, now) else SETTLE_S):
            yield b": still here\n\n"


def _log_data(tail: JobLogTail, style: Style) -> dict[str, Any]:
    return {
        "step": tail.step_index,
        "stream": tail.stream,
        "at": tail.timestamp,
        "lines": tail.lines,
        "html": [to_html(line, style) for line in tail.lines],
    }


def _has_ended(desk: Desk, job_id: str, now: float) -> bool:
    """What runs is not known until the pool has told it to this process; and a pool that is new
    knows no more than a peer that may hang has told it."""
    if any(job.key.job_id == job_id for job in desk.projection.all(JobView, now)):
        return False
    if any(row.job_id == job_id for row in desk.history.newest(KEEP)):
        return True
    outbox = desk.projection.one(OutboxState)
    is_open = outbox is not None and any(one.key.job_id == job_id for one in outbox.open)
    return _is_told(desk, now) and not is_open


def _is_told(desk: Desk, now: float) -> bool:
    """The pool's jobs come before its capacity, but an older capacity may have been under way
    when this process or that of the pool began."""
    if desk.projection.one(PoolCapacity) is None:
        return False
    sources = desk.projection.sources(now)
    return any(one.name == "pool" and now - one.booted_at >= SETTLE_S for one in sources)
