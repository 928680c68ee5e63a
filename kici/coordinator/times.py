"""Moments as people and APIs read them."""

from datetime import UTC, datetime


def iso(ms: float) -> str:
    """Epoch milliseconds as ``2026-01-02T03:04:05.678Z``."""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
