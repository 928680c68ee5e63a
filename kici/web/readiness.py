"""Why this worker would not take a job now: for ``/ready?strict=1`` and the page."""

from kici.contracts.link.lifecycle import DrainState
from kici.contracts.link.views import PoolCapacity
from kici.web import summary
from kici.web.desk import Desk


def strict_checks(desk: Desk) -> dict[str, str]:
    """``ok`` or a reason, for each thing a job needs."""
    return {
        "coordinator": _coordinator(desk),
        "drain": _drain(desk.projection.one(DrainState)),
        "scalers": _scalers(desk.projection.one(PoolCapacity)),
        "machine": _machine(desk.projection.one(PoolCapacity)),
    }


def why_not(desk: Desk) -> list[str]:
    """Sentences for people; empty when jobs are taken."""
    reasons = [reason for reason in strict_checks(desk).values() if reason != "ok"]
    capacity = desk.projection.one(PoolCapacity)
    if capacity and capacity.refusing and not summary.is_draining(desk):
        reasons.append(capacity.refusing)
    return list(dict.fromkeys(reasons))


def _coordinator(desk: Desk) -> str:
    if summary.n_connected(desk):
        return "ok"
    links = summary.links(desk)
    if not links:
        return "no coordinator is configured"
    last = next((link.reason for link in links if link.reason), "")
    return "no coordinator is connected" + (f": {last}" if last else "")


def _drain(drain: DrainState | None) -> str:
    if drain is None or not (drain.draining or drain.stopping):
        return "ok"
    word = "stopping" if drain.stopping else "draining"
    return word + (f": {drain.reason}" if drain.reason else "")


def _scalers(capacity: PoolCapacity | None) -> str:
    if capacity is None:
        return "the pool has not reported yet"
    if any(scaler.healthy for scaler in capacity.scalers) or capacity.agents:
        return "ok"
    if not capacity.scalers:
        return "no scaler is configured and no agent is connected"
    return "no scaler works: " + "; ".join(f"{s.name}: {s.reason}" for s in capacity.scalers)


def _machine(capacity: PoolCapacity | None) -> str:
    """Guards that hold jobs back; the pool says why unless it refuses for another reason."""
    if capacity is None or not capacity.guards:
        return "ok"
    told = capacity.refusing
    named = any(told.startswith(f"{guard}: ") for guard in capacity.guards)
    return told if named else "not fit for more work: " + ", ".join(capacity.guards)
