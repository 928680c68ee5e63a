"""When to dial a coordinator again (peer spec 1.8). Pure: the caller brings the randomness."""

#: Beyond this exponent every delay is capped, and the power would only grow.
_MAX_EXPONENT = 40
_FIRST_MS = 1000.0
_FACTOR = 1.5
#: Floors for refusals that do not heal by themselves (worker surface W60): five counted
#: failures within a minute lock our address out of the coordinator (peer spec 1.7).
_TOKEN_FLOOR_MS = 15_000.0
_SLOW_FLOOR_MS = 30_000.0
_SLOW_CODES = frozenset({4005, 4020})
_SLOW_REASONS = ("Rate limited", "Plan limit", "Unsupported protocol version")
_TOKEN_REASONS = ("Invalid token", "Role mismatch", "Missing auth method")


def reconnect_delay_ms(attempt: int, u: float, cap_ms: float) -> float:
    """Milliseconds before dial ``attempt`` + 1; ``u`` is uniform in [0, 1).

    Below the cap this is ``1000 * 1.5**n * (1 + u/2)``; at the cap the jitter stays, so that
    a fleet does not come back in step (1.8), and the cap is never exceeded.
    """
    ceiling = min(1.5 * _FIRST_MS * _FACTOR ** min(attempt, _MAX_EXPONENT), cap_ms)
    return ceiling * (2.0 + u) / 3.0


def refusal_floor_ms(code: int, reason: str) -> float:
    """The least delay after an end with ``code`` and ``reason``; 0 for what may heal soon."""
    if code in _SLOW_CODES or reason.startswith(_SLOW_REASONS):
        return _SLOW_FLOOR_MS
    return _TOKEN_FLOOR_MS if reason.startswith(_TOKEN_REASONS) else 0.0


class Redial:
    """Owns: the count of failed attempts of one coordinator URL, reset by an acceptance."""

    def __init__(self, cap_ms: float) -> None:
        self._cap_ms = cap_ms
        self.attempt = 0

    def accepted(self) -> None:
        """An authentication was accepted: the only thing that resets the sequence (P8)."""
        self.attempt = 0

    def next_delay_ms(self, u: float, code: int = 0, reason: str = "") -> float:
        """The delay after one more end of a connection or attempt."""
        delay = reconnect_delay_ms(self.attempt, u, self._cap_ms)
        floor = refusal_floor_ms(code, reason) * (2.0 + u) / 2.0
        self.attempt += 1
        return min(max(delay, floor), self._cap_ms)
