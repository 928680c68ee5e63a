"""The flow of job messages to the peer: in order per job, logs on credit."""

from collections import deque
from collections.abc import Callable

from kici.contracts.link import JobKey, Message
from kici.contracts.link.jobs import JobLogged

#: Log bytes kept here while there is no credit. Agents are paused by then, so only what was
#: already read from their sockets comes: one frame of 25 MiB is the largest of that.
MAX_WAITING_BYTES = 32 * 2**20


class Outflow:
    """Owns: the credit and what waits for it. Told by: the core.

    Whatever is said about a job stays behind that job's waiting logs, so a terminal report
    never overtakes a log line. Logs beyond the bound are counted per job, and the count is
    told once there is credit again (``lost``).
    """

    def __init__(self, tell: Callable[[Message], None]) -> None:
        self._tell = tell
        self._credit = 0
        self._waiting: deque[tuple[JobKey, Message, int]] = deque()
        self._behind: dict[JobKey, int] = {}
        self._n_bytes = 0
        self._lost: dict[JobKey, int] = {}

    @property
    def stopped(self) -> bool:
        """No credit: producers shall pause."""
        return self._credit <= 0

    def log(self, message: JobLogged) -> bool:
        """Send or keep a log chunk; False when it had to be dropped (and was counted)."""
        cost = len(message.frame)
        if self._credit > 0 and not self._waiting:
            self._credit -= cost
            self._tell(message)
            return True
        if self._n_bytes + cost > MAX_WAITING_BYTES:
            self._lost[message.key] = self._lost.get(message.key, 0) + message.n_lines
            return False
        self._wait(message.key, message, cost)
        return True

    def say(self, key: JobKey, message: Message) -> None:
        """Send a message that costs nothing, behind the waiting logs of its job."""
        if self._behind.get(key):
            self._wait(key, message, 0)
        else:
            self._tell(message)

    def waits(self, key: JobKey) -> bool:
        return key in self._behind

    def lost(self, key: JobKey) -> int:
        """Lines of ``key`` dropped since the last call."""
        return self._lost.pop(key, 0)

    def grant(self, n_bytes: int) -> None:
        """Credit from the peer: what waits goes first."""
        self._credit += n_bytes
        while self._waiting:
            key, message, cost = self._waiting[0]
            if cost and self._credit <= 0:
                return
            self._waiting.popleft()
            self._credit -= cost
            self._n_bytes -= cost
            self._behind[key] -= 1
            if not self._behind[key]:
                del self._behind[key]
            self._tell(message)

    def restart(self) -> None:
        """A new peer starts from zero credit."""
        self._credit = 0

    def _wait(self, key: JobKey, message: Message, cost: int) -> None:
        self._waiting.append((key, message, cost))
        self._behind[key] = self._behind.get(key, 0) + 1
        self._n_bytes += cost
