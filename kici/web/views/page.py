"""The status page for people at ``/``, its parts, its assets, and one job's log."""

import time
from pathlib import Path

import msgspec
from flask import Blueprint, Response, render_template

from kici.contracts.link.views import JobView
from kici.web.ansi import Style, to_html
from kici.web.desk import Drawn
from kici.web.feed import Full
from kici.web.page import page_facts
from kici.web.replies import desk, not_found

blueprint = Blueprint("page", __name__)

#: Read once before the fork: serving them touches no disk.
_STATIC = Path(__file__).parents[1] / "static"
ASSETS = {
    "page.css": (_STATIC.joinpath("page.css").read_bytes(), "text/css; charset=utf-8"),
    "page.js": (_STATIC.joinpath("page.js").read_bytes(), "text/javascript; charset=utf-8"),
    "icon.svg": (_STATIC.joinpath("icon.svg").read_bytes(), "image/svg+xml"),
}
#: What page.js replaces when something changes.
PARTS = ("head", "glance", "why", "jobs", "history", "agents", "links", "drain")
#: Disk, memory and heat are looked at again after this long.
DRAWN_S = 5.0
#: A page without JavaScript waits this long for the first lines of a log.
FIRST_LINES_S = 1.0


@blueprint.get("/")
def page() -> str:
    return render_template("page.html", parts=PARTS, **page_facts(desk()))


@blueprint.get("/parts")
def parts() -> Response:
    """The sections of the page by id, as HTML; drawn once for all who look at once."""
    here, now = desk(), time.time()
    version = here.projection.version
    drawn = here.drawn
    if drawn is None or drawn.version != version or now - drawn.at > DRAWN_S:
        facts = page_facts(here)
        html = {name: render_template(f"parts/{name}.html", **facts) for name in PARTS}
        drawn = here.drawn = Drawn(version, now, msgspec.json.encode(html))
    return Response(drawn.body, content_type="application/json")


@blueprint.get("/assets/<name>")
def asset(name: str) -> Response:
    if name not in ASSETS:
        return not_found()
    data, content_type = ASSETS[name]
    response = Response(data, content_type=content_type)
    response.headers["Cache-Control"] = "no-cache"
    return response


@blueprint.get("/jobs/<job_id>")
def job_page(job_id: str) -> Response | str:
    """A job's log tail, for browsers without JavaScript (it refreshes itself)."""
    here, now = desk(), time.time()
    rows = here.projection.all(JobView, now)
    job = next((row for row in rows if row.key.job_id == job_id), None)
    if job is None:
        return not_found()
    style = Style()
    lines = [to_html(line, style) for line in _tail(job_id)]
    return render_template("job.html", job=job, lines=lines, settings=here.settings, now=now)


def _tail(job_id: str) -> list[str]:
    try:
        with desk().feed.subscribe(job_id) as reader:
            reader.wait(FIRST_LINES_S)
            return [line for piece in reader.take_tails() for line in piece.tail.lines]
    except Full:
        return []
