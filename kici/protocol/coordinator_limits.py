"""Refuses addresses that fail to authenticate too often (peer spec 1.7, C15). Pure."""

import msgspec

#: A fixed window from the first failure on, not extended by refused connections.
WINDOW_S = 60.0
FAILURES_ALLOWED = 5
#: Addresses remembered at once: an attacker with a /64 must not fill the memory. Beyond it
#: the oldest window is forgotten first.
MAX_ADDRESSES = 10_000


class _Window(msgspec.Struct):
    ends_at: float
    failures: int


class FailureLimit:
    """Owns: the failures of the last minute, by address. Told by: the peer server."""

    def __init__(self) -> None:
        self._windows: dict[str, _Window] = {}

    def blocked(self, address: str, now: float) -> bool:
        """Whether ``address`` must be closed with 4001 ``Rate limited`` before any hello."""
        window = self._current(address, now)
        return window is not None and window.failures >= FAILURES_ALLOWED

    def failed(self, address: str, now: float) -> None:
        """Count one failure of ``address``."""
        window = self._current(address, now)
        if window is not None:
            window.failures += 1
            return
        if len(self._windows) >= MAX_ADDRESSES:
            self.sweep(now)
        if len(self._windows) >= MAX_ADDRESSES:
            del self._windows[next(iter(self._windows))]
        self._windows[address] = _Window(now + WINDOW_S, 1)

    def sweep(self, now: float) -> None:
        """Forget the windows that are over."""
        for address in [a for a, window in self._windows.items() if window.ends_at <= now]:
            del self._windows[address]

    def _current(self, address: str, now: float) -> _Window | None:
        window = self._windows.get(address)
        if window is None or window.ends_at > now:
            return window
        del self._windows[address]
        return None
