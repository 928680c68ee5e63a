"""Whether a worker is alive, by what arrives and by our own clock alone (C25, C26). Pure."""

#: From one whole frame to the next, however steadily bytes come: 25 MiB at 120 kbit/s.
FRAME_WITHIN_S = 1800.0


class Liveness:
    """Owns: when something came last. Moments are monotonic seconds. Told by: the session."""

    __slots__ = ("_frame_at", "at")

    def __init__(self) -> None:
        #: The last sign of life.
        self.at = 0.0
        self._frame_at = 0.0

    def frame(self, now: float) -> None:
        """A whole frame came."""
        self.at = self._frame_at = now

    def bytes(self, at: float) -> None:
        """Bytes came: a large report on a slow uplink is one frame and takes its time."""
        self.at = max(self.at, min(at, self._frame_at + FRAME_WITHIN_S))
