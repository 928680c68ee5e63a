"""Pure: when a dead child starts again, and when to give up on it.

A single death is healed at once (it must not be seen outside); a child that dies again and
again waits longer each time; one that never stays up ends the worker, so that the service
manager (and its log) sees it.
"""

#: A child that ran this long was well: its earlier deaths are forgotten.
STEADY_S = 60.0
#: Deaths in a row that are healed without waiting.
N_AT_ONCE = 2
#: The first wait, doubled for each further death up to the ceiling.
FIRST_DELAY_S = 0.5
#: Below the liveness bound (60 s), so that waiting is never taken for hanging.
MAX_DELAY_S = 30.0
#: Deaths in a row after which there is no further start: about 90 s of trying.
N_GIVE_UP = 10


class RestartPolicy:
    """Owns: how often one child died in a row. Told by: its death."""

    def __init__(self) -> None:
        self.n_in_a_row = 0

    def died(self, ran_for_s: float, spread: float) -> float | None:
        """Seconds to wait before the next start; None gives up.

        ``spread`` is a random number in 0..1: the delay is taken up to a quarter shorter.
        """
        if ran_for_s >= STEADY_S:
            self.n_in_a_row = 0
        self.n_in_a_row += 1
        if self.n_in_a_row >= N_GIVE_UP:
            return None
        if self.n_in_a_row <= N_AT_ONCE:
            return 0.0
        delay = min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** (self.n_in_a_row - N_AT_ONCE - 1))
        return float(delay * (1 - spread / 4))
