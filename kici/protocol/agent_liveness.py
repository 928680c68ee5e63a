"""Is the agent at the other end still there? (agent spec 1.11). Pure."""

#: A ping after this much silence (1.11 asks for at most 30 s).
PING_S = 25.0
#: No byte at all, not even a pong: the peer is dead (A25).
DEAD_S = 90.0
#: No frame: unhealthy (a log line), then gone (A24), although pongs may still come.
UNHEALTHY_S = 90.0
GONE_S = 180.0


class Liveness:
    """Owns: when we last heard what of one agent. Told by: its session.

    Two clocks: any byte (a pong proves the kernel and the library), and any frame (proves
    the agent). ``deadline`` is when ``check`` is to be called.
    """

    def __init__(self, now: float) -> None:
        self.deadline = now + PING_S
        self.unhealthy = False
        self._byte_at = now
        self._frame_at = now
        self._ping_at = now
        self._paused = False

    def frame(self, now: float) -> None:
        """Any frame counts, not only heartbeats."""
        # The deadline stays: check() finds out that it came too early, once in PING_S.
        self._frame_at = self._byte_at = now
        self.unhealthy = False

    def byte(self, at: float) -> None:
        self._byte_at = max(self._byte_at, at)

    def pause(self, paused: bool, now: float) -> None:
        """While we do not read, silence is our own doing."""
        self._paused = paused
        self.frame(now)

    def check(self, now: float) -> tuple[str, bool, bool]:
        """``(why it is over or "", became unhealthy, ping now)``.

        Compared as sums, as the deadline is made: differences round otherwise, and a check
        that comes a rounding error too early would be repeated without end.
        """
        if self._paused:
            self._frame_at = self._byte_at = now
        if now >= self._byte_at + DEAD_S:
            return f"No answer to pings for {DEAD_S:.0f} s", False, False
        if now >= self._frame_at + GONE_S:
            return "Heartbeat timeout", False, False
        sickened = not self.unhealthy and now >= self._frame_at + UNHEALTHY_S
        self.unhealthy = self.unhealthy or sickened
        # Also while paused: unanswered bytes make the kernel notice a dead host.
        quiet_since = self._ping_at if self._paused else max(self._byte_at, self._ping_at)
        ping = now >= quiet_since + PING_S
        if ping:
            self._ping_at = quiet_since = now
        self.deadline = self._next(quiet_since)
        return "", sickened, ping

    def _next(self, quiet_since: float) -> float:
        moments = [quiet_since + PING_S, self._byte_at + DEAD_S, self._frame_at + GONE_S]
        if not self.unhealthy:
            moments.append(self._frame_at + UNHEALTHY_S)
        return min(moments)
