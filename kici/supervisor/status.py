"""What the service manager is told, and when (sd_notify). Never gated on a coordinator."""

from collections.abc import Mapping

from kici.shell.notify import Notifier

#: The watchdog is fed three times in its period: two may be late or lost.
_FEEDS_PER_PERIOD = 3


class ServiceStatus:
    """Owns: whether READY was said, and when the watchdog is fed next (monotonic seconds)."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._is_ready = False
        self._text = "starting"
        patience = notifier.watchdog_s
        self._interval_s = None if patience is None else patience / _FEEDS_PER_PERIOD
        self.deadline: float | None = None if patience is None else 0.0

    def children(self, states: Mapping[str, str], all_ready: bool) -> None:
        """The port answers from the start (it listens); READY when all three serve."""
        self._text = ", ".join(f"{name} {state}" for name, state in states.items())
        if all_ready and not self._is_ready and len(states) == 3:
            self._is_ready = True
            self._notifier.ready(self._text)
        else:
            self._notifier.status(self._text)

    def reloading(self) -> None:
        if self._is_ready:
            self._notifier.reloading()

    def reloaded(self) -> None:
        if self._is_ready:
            self._notifier.ready(self._text)

    def stopping(self) -> None:
        self._notifier.stopping("draining")

    def tick(self, now: float, all_well: bool) -> None:
        if self._interval_s is None or self.deadline is None or now < self.deadline:
            return
        self.deadline = now + self._interval_s
        if all_well:
            self._notifier.watchdog()
