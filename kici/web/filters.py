"""What templates need to word things; registered by ``app.make_app``."""

import time
from typing import Any

from kici.protocol.urls import shown_url
from kici.web.page import step_text
from kici.wording import duration, size

#: state -> colour class; anything else is neutral.
_MOODS = {
    "good": {"success", "connected", "idle", "running"},
    "bad": {"failed", "disconnected", "gone", "fatal", "exited", "timed_out_stale"},
    "warn": {"cancelled", "cancelling", "recovering", "backoff", "stopping", "skipped"},
    "info": {"connecting", "handshaking", "authenticating", "busy", "starting", "dispatched"},
}
_MARKS = {"good": "●", "bad": "✕", "warn": "○"}


def mood(state: str) -> str:
    """The colour class of a state."""
    return next((name for name, states in _MOODS.items() if state.lower() in states), "quiet")


def mark(state: str) -> str:
    """One sign, so that colour is not the only difference."""
    return _MARKS.get(mood(state), "○")


def clock(seconds: float) -> str:
    """UTC, for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


FILTERS: dict[str, Any] = {
    "duration": duration,
    "size": size,
    "mood": mood,
    "mark": mark,
    "clock": clock,
    "step_text": step_text,
    "shown_url": shown_url,
}
