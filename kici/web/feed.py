"""Streams to browsers and command lines: change ticks and log tails, all bounded.

Owns: subscriptions and the tails of watched jobs. Told by: ``main`` (changes, tails) and by
views (subscribe). Tells: the pool, which jobs are watched.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gevent.event import Event

from kici.contracts.link.views import JobLogTail, LogWatch

#: Streams at once: each holds one greenlet and one connection.
MAX_STREAMS = 32
#: Lines kept of a watched job, so that a page that is opened again shows something.
TAIL_LINES = 500
#: Tails kept after their last watcher left.
MAX_TAILS = 16
#: Entries a slow reader may lag behind before it is told that it missed some.
BACKLOG = 1000


class Full(Exception):
    """There are ``MAX_STREAMS`` already."""


class Subscription:
    """One reader: wakes on every change and, for a watched job, holds its new tails."""

    def __init__(self, job_id: str | None) -> None:
        self.job_id = job_id
        self.n_missed = 0
        self._tails: deque[JobLogTail] = deque()
        self._changed = Event()

    def wait(self, timeout_s: float) -> bool:
        """True when something changed within ``timeout_s``."""
        changed = bool(self._changed.wait(timeout_s))
        self._changed.clear()
        return changed

    def take_tails(self) -> list[JobLogTail]:
        taken = list(self._tails)
        self._tails.clear()
        return taken

    def wake(self) -> None:
        self._changed.set()

    def push(self, tail: JobLogTail) -> None:
        if len(self._tails) >= BACKLOG:
            self.n_missed += len(self._tails.popleft().lines)
        self._tails.append(tail)
        self.wake()


class Feed:
    def __init__(self, watch: Callable[[LogWatch], None]) -> None:
        self._watch = watch
        self._subscriptions: set[Subscription] = set()
        self._tails: dict[str, deque[JobLogTail]] = {}

    @property
    def n_streams(self) -> int:
        return len(self._subscriptions)

    @contextmanager
    def subscribe(self, job_id: str | None = None) -> Iterator[Subscription]:
        """A reader until the block ends; ``Full`` when there are too many."""
        if len(self._subscriptions) >= MAX_STREAMS:
            raise Full
        subscription = Subscription(job_id)
        for tail in self._tails.get(job_id or "", ()):
            subscription.push(tail)
        self._subscriptions.add(subscription)
        self._rewatch(job_id)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            self._rewatch(job_id)

    def changed(self) -> None:
        """Something in the projection is new."""
        for subscription in self._subscriptions:
            subscription.wake()

    def log(self, tail: JobLogTail) -> None:
        """Lines of a watched job."""
        self._remember(tail)
        for subscription in self._subscriptions:
            if subscription.job_id == tail.key.job_id:
                subscription.push(tail)

    def watch_again(self) -> None:
        """The pool is new and knows no watchers yet."""
        if watched := self._watched():
            self._watch(LogWatch(job_ids=watched))

    def _watched(self) -> tuple[str, ...]:
        return tuple(sorted({s.job_id for s in self._subscriptions if s.job_id}))

    def _rewatch(self, job_id: str | None) -> None:
        if job_id is not None:
            self._watch(LogWatch(job_ids=self._watched()))

    def _remember(self, tail: JobLogTail) -> None:
        kept = self._tails.setdefault(tail.key.job_id, deque())
        kept.append(tail)
        while sum(len(known.lines) for known in kept) > TAIL_LINES and len(kept) > 1:
            kept.popleft()
        while len(self._tails) > MAX_TAILS:
            del self._tails[next(iter(self._tails))]
