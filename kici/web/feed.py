"""Streams to browsers and command lines: change ticks and log tails, all bounded.

Owns: subscriptions and the tails of watched jobs. Told by: ``main`` (changes, tails) and by
views (subscribe). Tells: the pool, which jobs are watched.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gevent.event import Event

from kici.contracts.link.views import JobLogTail, LogWatch
from kici.web.tails import Piece, Tails, fitting

#: Streams at once: each holds one greenlet and one connection.
MAX_STREAMS = 32
#: Kept of a watched job, so that a page that is opened again shows something.
TAIL_LINES = 500
TAIL_BYTES = 256 * 1024
#: Jobs that this is kept of, whether anybody still watches them or not.
MAX_TAILS = 16
#: What a slow reader may lag behind before it is told that it missed some.
BACKLOG_LINES = 5000
BACKLOG_BYTES = 512 * 1024


class Full(Exception):
    """There are ``MAX_STREAMS`` already."""


class Subscription:
    """One reader: wakes on every change and, for a watched job, holds its new tails."""

    def __init__(self, job_id: str | None) -> None:
        self.job_id = job_id
        self.n_missed = 0
        self._tails = Tails(BACKLOG_LINES, BACKLOG_BYTES)
        self._changed = Event()

    def wait(self, timeout_s: float) -> bool:
        """True when something changed within ``timeout_s``."""
        changed = bool(self._changed.wait(timeout_s))
        self._changed.clear()
        return changed

    def take_tails(self) -> list[Piece]:
        return self._tails.take()

    def wake(self) -> None:
        self._changed.set()

    def push(self, piece: Piece, n_before: int = 0) -> None:
        """``n_before`` lines were left out just before these."""
        self.n_missed += n_before + self._tails.add(piece)
        self.wake()


class Feed:
    def __init__(self, watch: Callable[[LogWatch], None]) -> None:
        self._watch = watch
        self._subscriptions: set[Subscription] = set()
        #: By job id; who printed last is last.
        self._tails: dict[str, Tails] = {}
        self._number = 0

    @property
    def n_streams(self) -> int:
        return len(self._subscriptions)

    @contextmanager
    def subscribe(self, job_id: str | None = None, after: int = 0) -> Iterator[Subscription]:
        """A reader until the block ends, of the pieces beyond number ``after``; ``Full`` when
        there are too many."""
        if len(self._subscriptions) >= MAX_STREAMS:
            raise Full
        subscription = Subscription(job_id)
        for piece in self._tails.get(job_id or "", ()):
            if piece.number > after:
                subscription.push(piece)
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
        short, n_cut = fitting(tail, TAIL_LINES, TAIL_BYTES)
        self._number += 1
        piece = Piece(self._number, short)
        self._remember(piece)
        for subscription in self._subscriptions:
            if subscription.job_id == tail.key.job_id:
                subscription.push(piece, n_cut)

    def ended(self, job_id: str) -> None:
        """Nobody opens its log here any more; who reads it has the rest already."""
        self._tails.pop(job_id, None)

    def remembered(self) -> set[str]:
        """The jobs whose last lines are kept."""
        return set(self._tails)

    def watch_again(self) -> None:
        """The pool is new and knows no watchers yet."""
        if watched := self._watched():
            self._watch(LogWatch(job_ids=watched))

    def _watched(self) -> tuple[str, ...]:
        return tuple(sorted({s.job_id for s in self._subscriptions if s.job_id}))

    def _rewatch(self, job_id: str | None) -> None:
        if job_id is not None:
            self._watch(LogWatch(job_ids=self._watched()))

    def _remember(self, piece: Piece) -> None:
        job_id = piece.tail.key.job_id
        kept = self._tails.pop(job_id, None) or Tails(TAIL_LINES, TAIL_BYTES)
        kept.add(piece)
        self._tails[job_id] = kept
        while len(self._tails) > MAX_TAILS:
            del self._tails[next(iter(self._tails))]
