"""Waiting in tests: a condition, polled against a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
#: Far above anything measured; a loaded machine must not fail a test.
WAIT_S = 20.0
_PAUSE_S = 0.01


def wait_for(
    condition: Callable[[], T],
    what: str = "the condition",
    timeout_s: float = WAIT_S,
    sleep: Callable[[float], object] = time.sleep,
) -> T:
    """The first truthy value of ``condition``; AssertionError naming ``what`` after the time."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        sleep(_PAUSE_S)
    return value


def until(condition: Callable[[], T], timeout_s: float = WAIT_S) -> T:
    """``wait_for`` where greenlets of this process must run meanwhile."""
    import gevent

    return wait_for(condition, timeout_s=timeout_s, sleep=gevent.sleep)
