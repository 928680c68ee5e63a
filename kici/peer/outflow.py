"""Frames on their way to one coordinator: memory while it keeps up, else the spool.

Order is kept: memory first (always older), then the spool. Credit goes back to the pool when
a frame has left, is spooled, or is lost; while a connected coordinator is slow and the spool
is full, credit is held back instead, so nothing is lost and the pool stops reading agents.
"""

from collections import Counter, deque
from collections.abc import Callable

from gevent.event import Event

from kici.contracts.link import JobKey
from kici.peer.spool import Frame, Spool

#: Bytes in memory for one coordinator before the spool takes over.
MEMORY_BYTES = 512 * 1024


class Outflow:
    """Owns: the unsent frames of one coordinator. ``refund(n)`` gives credit back."""

    def __init__(self, url: str, spool: Spool, refund: Callable[[int], None]) -> None:
        self._url = url
        self._spool = spool
        self._refund = refund
        self._queue: deque[tuple[Frame, int]] = deque()
        self._queued_bytes = 0
        self._queued: Counter[JobKey] = Counter()
        self._withheld = 0
        self.connected = False
        self.ready = Event()
        if spool.holds(url):
            self.ready.set()

    def put(self, frame: Frame, credit: int) -> None:
        """One frame from the pool; ``credit`` is what it cost."""
        roomy = self._queued_bytes < MEMORY_BYTES
        if self.connected and roomy and not self._spool.holds(self._url):
            self._queue.append((frame, credit))
            self._queued_bytes += len(frame.text)
            self._queued[frame.key] += 1
        elif self.connected and self._spool.is_full:
            # At most the pool's credit goes beyond the bound: there is no more until it drains.
            self._spool.append(frame, beyond=True)
            self._withheld += credit
        else:
            # A step update is small and never dropped for its size.
            self._spool.append(frame, beyond=frame.n_lines == 0)
            self._refund(credit)
        self.ready.set()

    def pending(self, key: JobKey) -> bool:
        """Whether a frame of this job must go before its terminal report."""
        self._spool.finish(key)
        return self._queued[key] > 0 or self._spool.pending(key) > 0

    def first(self) -> Frame | None:
        """The frame to send next."""
        if self._queue:
            return self._queue[0][0]
        frame = self._spool.first(self._url)
        if frame is None:
            self.ready.clear()
        return frame

    def sent(self) -> JobKey | None:
        """``first`` is out; returns its job."""
        if self._queue:
            frame, credit = self._queue.popleft()
            self._queued_bytes -= len(frame.text)
            self._queued[frame.key] -= 1
            if self._queued[frame.key] <= 0:
                del self._queued[frame.key]
            self._refund(credit)
            return frame.key
        dropped = self._spool.drop(self._url)
        if not self._spool.is_full:
            self._release()
        return dropped.key if dropped else None

    def disconnected(self) -> None:
        """From now on the spool decides, and the jobs go on: no credit is held back."""
        self.connected = False
        self._refund(sum(credit for _, credit in self._queue))
        self._queue = deque((frame, 0) for frame, _ in self._queue)
        self._release()

    def is_empty(self) -> bool:
        return not self._queue and not self._spool.holds(self._url)

    def _release(self) -> None:
        withheld, self._withheld = self._withheld, 0
        self._refund(withheld)
