"""Frames on their way to one coordinator: memory while it keeps up, else the spool.

Order is kept: memory first (always older), then the spool. Credit goes back to the pool when
a frame has left, is spooled, or is lost; while a connected coordinator is slow and the spool
is full, credit is held back instead, so nothing is lost and the pool stops reading agents.

The link has no receipt for steps and logs (peer spec 4.11), but both ends answer WebSocket
pings in order (1.5): the pong to a ping sent after a frame proves that the frame was read.
What is not proven is sent again on the next connection; line numbers tell a coordinator
what it has already.
"""

from collections import Counter, deque
from collections.abc import Callable

import msgspec
from gevent.event import Event

from kici.contracts.link import JobKey
from kici.peer.spool import Frame, Spool

#: Bytes in memory for one coordinator before the spool takes over.
MEMORY_BYTES = 512 * 1024
#: Bytes on the wire that nobody has proven to be read: beyond it the writer waits for a pong.
WINDOW_BYTES = 2**20
#: What was read is kept this long all the same: our coordinator commits logs in batches of
#: 0.1 s, and may be killed in between.
COMMITTED_S = 1.0
#: A frame that was read goes earlier when all that is kept takes more than this.
KEPT_BYTES = 2 * 2**20


class _Sent(msgspec.Struct, frozen=True):
    number: int
    frame: Frame
    at: float


class Outflow:
    """Owns: the frames of one coordinator that are unsent or not proven to have arrived.
    ``refund(n)`` gives credit back. Moments are monotonic seconds."""

    def __init__(self, url: str, spool: Spool, refund: Callable[[int], None]) -> None:
        self._url = url
        self._spool = spool
        self._refund = refund
        self._queue: deque[tuple[Frame, int]] = deque()
        self._queued_bytes = 0
        self._queued: Counter[JobKey] = Counter()
        self._withheld = 0
        self._sent: deque[_Sent] = deque()
        self._kept_bytes = 0
        self._unread_bytes = 0
        self._n_sent = 0
        self._n_read = 0
        self._pinged: int | None = None
        self._markers: deque[Frame] = deque()
        self.connected = False
        self.counts_lines = False
        self.ready = Event()
        if spool.holds(url):
            self.ready.set()

    def put(self, frame: Frame, credit: int) -> None:
        """One frame from the pool; ``credit`` is what it cost."""
        roomy = self._queued_bytes < MEMORY_BYTES
        if self.connected and roomy and not self._spool.holds(self._url):
            self._enqueue(frame, credit)
        elif self.connected and self._spool.is_full:
            # At most the pool's credit goes beyond the bound: there is no more until it drains.
            if self._spool.append(frame, beyond=True):
                self._withheld += credit
            else:
                self._refund(credit)  # lost and counted: nothing of it waits
        else:
            # A step update is small and never dropped for its size.
            self._spool.append(frame, beyond=frame.n_lines == 0)
            self._refund(credit)
        self.ready.set()

    def pending(self, key: JobKey) -> bool:
        """Whether a frame of this job must go before its terminal report."""
        unsaid = self._spool.finish(key)
        if not self.counts_lines:
            # One that counts finds out by itself, and knows the right place.
            self._markers.extend(unsaid)
        if any(marker.key == key for marker in self._markers):
            return True
        return self._queued[key] > 0 or self._spool.pending(key) > 0

    @property
    def has_room(self) -> bool:
        """False: first a pong must prove that the other side reads."""
        return self._unread_bytes < WINDOW_BYTES

    def first(self) -> Frame | None:
        """The frame to send next."""
        if not self._markers and not self.counts_lines:
            self._pass_over_doubtful()
        frame = self._peek()
        if frame is None:
            self.ready.clear()
        return frame

    def _peek(self) -> Frame | None:
        if self._markers:
            return self._markers[0]
        return self._queue[0][0] if self._queue else self._spool.first(self._url)

    def _pass_over_doubtful(self) -> None:
        """A coordinator that does not count lines would store them twice: say instead that
        they may be missing. Steps are harmless and are said again."""
        doubts: dict[JobKey, tuple[Frame, int]] = {}
        while (frame := self._peek()) is not None and frame.doubtful and frame.n_lines:
            _, n_lines = doubts.get(frame.key, (frame, 0))
            doubts[frame.key] = (frame, n_lines + frame.n_lines)
            self._take()
        self._markers.extend(self._spool.doubt(*doubt) for doubt in doubts.values())

    def sent(self, now: float) -> JobKey | None:
        """``first`` is out; returns its job."""
        frame = self._take()
        if frame is None:
            return None
        self._n_sent += 1
        self._sent.append(_Sent(self._n_sent, frame, now))
        self._kept_bytes += len(frame.text)
        self._unread_bytes += len(frame.text)
        return frame.key

    def wants_ping(self) -> bool:
        """Something is out that only a pong can prove; one ping at a time."""
        return self._pinged is None and self._n_read < self._n_sent

    def pinged(self) -> None:
        self._pinged = self._n_sent

    def ponged(self, now: float) -> None:
        """What was out at the ping is read."""
        if self._pinged is not None:
            self._n_read, self._pinged = self._pinged, None
        self._unread_bytes = sum(
            len(one.frame.text) for one in self._sent if one.number > self._n_read
        )
        self.settle(now)
        self.ready.set()

    def settle(self, now: float) -> None:
        """Forget what is surely committed."""
        while self._sent and self._sent[0].number <= self._n_read:
            if self._sent[0].at + COMMITTED_S > now and self._kept_bytes < KEPT_BYTES:
                return
            self._kept_bytes -= len(self._sent.popleft().frame.text)

    def ended(self, key: JobKey) -> None:
        """The job's end, sent after its frames, is acknowledged: so are they."""
        self._sent = deque(one for one in self._sent if one.frame.key != key)
        self._kept_bytes = sum(len(one.frame.text) for one in self._sent)
        self._unread_bytes = sum(
            len(one.frame.text) for one in self._sent if one.number > self._n_read
        )
        self.ready.set()

    def disconnected(self) -> None:
        """From now on the spool decides, and the jobs go on: no credit is held back. What is
        not proven to have arrived goes to its front, out of reach of our own death."""
        self.connected = False
        self._refund(sum(credit for _, credit in self._queue))
        doubtful = (one for one in self._sent if self.counts_lines or one.number > self._n_read)
        frames = [msgspec.structs.replace(one.frame, doubtful=True) for one in doubtful]
        frames += self._markers
        frames += [frame for frame, _ in self._queue]
        self._queue.clear()
        self._queued.clear()
        self._markers.clear()
        self._sent.clear()
        self._queued_bytes = self._kept_bytes = self._unread_bytes = 0
        self._n_read, self._pinged = self._n_sent, None
        if frames and not self._spool.put_back(frames):
            for frame in frames:
                self._enqueue(frame, 0)
        self._release()
        self.ready.set()

    def is_empty(self) -> bool:
        return not self._queue and not self._markers and not self._spool.holds(self._url)

    def _enqueue(self, frame: Frame, credit: int) -> None:
        self._queue.append((frame, credit))
        self._queued_bytes += len(frame.text)
        self._queued[frame.key] += 1

    def _take(self) -> Frame | None:
        if self._markers:
            return self._markers.popleft()
        if not self._queue:
            dropped = self._spool.drop(self._url)
            # Another coordinator's backlog may keep the spool full: what is held back for ours
            # is given back at the latest when nothing of ours is in it.
            if not (self._spool.is_full and self._spool.holds(self._url)):
                self._release()
            return dropped
        frame, credit = self._queue.popleft()
        self._queued_bytes -= len(frame.text)
        self._queued[frame.key] -= 1
        if self._queued[frame.key] <= 0:
            del self._queued[frame.key]
        self._refund(credit)
        return frame

    def _release(self) -> None:
        withheld, self._withheld = self._withheld, 0
        self._refund(withheld)
