"""Outbox writes in order, in a thread: fsync must not stop the loop that answers sockets."""

from collections.abc import Callable
from typing import TypeVar

import gevent
from gevent.queue import Queue

T = TypeVar("T")

#: Tasks that wait for the disk; more than a pool's whole queue of jobs can cause at once.
_LENGTH = 10_000


class Disk:
    """Owns: the order of everything that needs the disk first."""

    def __init__(self) -> None:
        self._tasks: Queue[Callable[[], None]] = Queue(_LENGTH)
        self._busy = False
        self.worker = gevent.spawn(self._run)

    def put(self, task: Callable[[], None]) -> None:
        """Run ``task`` after everything put before it; it may call ``in_thread``."""
        self._tasks.put(task)

    def in_thread(self, call: Callable[..., T], *args: object) -> T:
        """``call`` in a thread; its result or error. The thread itself never fails: gevent
        would print a stack for what is an answer here (a full disk)."""
        result, error = gevent.get_hub().threadpool.apply(_caught, (call, args))
        if error is not None:
            raise error
        return result

    @property
    def is_idle(self) -> bool:
        return not self._busy and self._tasks.qsize() == 0

    def _run(self) -> None:
        while True:
            task = self._tasks.get()
            self._busy = True
            task()
            self._busy = False


def _caught(call: Callable[..., T], args: tuple[object, ...]) -> tuple[T | None, OSError | None]:
    try:
        return call(*args), None
    except OSError as error:
        return None, error
