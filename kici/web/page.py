"""The facts of the status page, ready for the templates. Pure but for the clock given."""

import time
from typing import Any

from kici.contracts.link.lifecycle import DrainState
from kici.contracts.link.views import AgentView, JobView, PoolCapacity
from kici.web import summary
from kici.web.desk import Desk, iso
from kici.web.projection import newest_first

#: Rows of the history table.
HISTORY_ROWS = 50


def page_facts(desk: Desk) -> dict[str, Any]:
    """Everything ``page.html`` shows."""
    now = time.time()
    projection = desk.projection
    return {
        "now": now,
        "settings": desk.settings,
        "links": summary.links(desk),
        "drain": projection.one(DrainState),
        "capacity": projection.one(PoolCapacity),
        "agents": projection.all(AgentView, now),
        "jobs": newest_first(projection.all(JobView, now)),
        "counts": summary.agent_counts(desk),
        "history": desk.history.newest(HISTORY_ROWS),
        "iso": iso_or_dash,
    }


def iso_or_dash(seconds: float | None) -> str:
    return iso(seconds) or "-"
