"""Moments as people and APIs read them, and numbers of strangers as SQLite takes them."""

from datetime import UTC, datetime


def iso(ms: float) -> str:
    """Epoch milliseconds as ``2026-01-02T03:04:05.678Z``."""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


#: Integers that JSON, JavaScript and SQLite all hold exactly.
MAX_WHOLE = 2**53


def whole(number: float) -> int:
    """A peer's number, which may be a fraction or 1e300, as an integer that can be stored."""
    return int(max(-MAX_WHOLE, min(MAX_WHOLE, number)))
