"""Pure: which children still turn their loop. Never gated on a coordinator.

Owns: the pings under way. Told by: starts, deaths, pongs and the clock (monotonic seconds).
"""

import msgspec

#: A ping is one small message and one wake-up of each process; three a minute cost nothing.
PING_INTERVAL_S = 20.0
#: A child that has not answered for so long is killed. Far above any stall that is normal
#: (a 25 MiB frame, docker's client: under a second each, swapping on a small Pi: seconds),
#: below the patience of a service manager's watchdog and of coordinators (90 s).
HUNG_AFTER_S = 60.0
#: When our own loop was away for so long (machine asleep, SIGSTOP), nobody's silence counts.
STALL_S = 5.0


class SendPing(msgspec.Struct, frozen=True):
    name: str
    number: int


class Hung(msgspec.Struct, frozen=True):
    name: str
    silent_for_s: float


class _Pulse(msgspec.Struct):
    answered_at: float
    pinged_at: float
    number: int = 0


class Liveness:
    def __init__(
        self, interval_s: float = PING_INTERVAL_S, hung_after_s: float = HUNG_AFTER_S
    ) -> None:
        self._interval_s = interval_s
        self._hung_after_s = hung_after_s
        self._pulses: dict[str, _Pulse] = {}

    @property
    def deadline(self) -> float | None:
        """When ``tick`` wants to be called."""
        due = [pulse.pinged_at + self._interval_s for pulse in self._pulses.values()]
        due += [pulse.answered_at + self._hung_after_s for pulse in self._pulses.values()]
        return min(due, default=None)

    def started(self, name: str, now: float) -> None:
        """A start counts as an answer: booting has the same bound."""
        self._pulses[name] = _Pulse(answered_at=now, pinged_at=now)

    def gone(self, name: str) -> None:
        self._pulses.pop(name, None)

    def pong(self, name: str, number: int, now: float) -> None:
        pulse = self._pulses.get(name)
        if pulse is not None and number == pulse.number:
            pulse.answered_at = now

    def all_well(self, now: float) -> bool:
        """Every running child answered within the bound: the watchdog may be fed."""
        return all(now - pulse.answered_at < self._hung_after_s for pulse in self._pulses.values())

    def tick(self, now: float) -> list[SendPing | Hung]:
        planned = self.deadline
        if planned is not None and now - planned > STALL_S:
            for pulse in self._pulses.values():
                pulse.answered_at = now
        actions: list[SendPing | Hung] = []
        for name, pulse in self._pulses.items():
            if now - pulse.answered_at >= self._hung_after_s:
                actions.append(Hung(name, now - pulse.answered_at))
                pulse.answered_at = now  # one verdict for one silence
            elif now - pulse.pinged_at >= self._interval_s:
                pulse.pinged_at = now
                pulse.number += 1
                actions.append(SendPing(name, pulse.number))
        return actions
