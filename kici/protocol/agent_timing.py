"""Named deadlines of one machine, and the agent's reconnect delay (agent spec 1.12)."""

#: Delay before attempt n: ``min(1 * 1.5^n * (1 + r/2), 60)`` seconds.
_FIRST_S, _FACTOR, _CEILING_S = 1.0, 1.5, 60.0


def backoff_s(n_attempts: int, random: float) -> float:
    """Seconds before the next attempt; ``random`` is in [0, 1)."""
    # 1.5^11 is beyond the ceiling; the exponent is bounded so that it never overflows.
    grown: float = _FIRST_S * _FACTOR ** min(n_attempts, 20)
    return min(grown * (1 + random / 2), _CEILING_S)


class Timers:
    """Owns: when each named timer wants to fire, in monotonic seconds."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}

    @property
    def earliest(self) -> float | None:
        return min(self._at.values(), default=None)

    def set(self, name: str, at: float) -> None:
        self._at[name] = at

    def clear(self, *names: str) -> None:
        for name in names:
            self._at.pop(name, None)

    def is_set(self, name: str) -> bool:
        return name in self._at

    def due(self, now: float) -> list[str]:
        """The timers that fire now, earliest first; they are cleared."""
        names = sorted((at, name) for name, at in self._at.items() if at <= now)
        for _, name in names:
            del self._at[name]
        return [name for _, name in names]
