"""Actions wait here for their turn, and agents for the actions."""

from collections import deque
from collections.abc import Callable, Sequence

from gevent.event import Event as Signal

from kici.protocol.machine import Action

#: Actions not yet performed before agents are held back: performing them waits only for a
#: neighbour that is far behind.
MAX_UNDONE = 2000


class Undone:
    """Owns: the actions that are decided and not performed, in the order of their events.
    Told by: the pool's loop. ``perform`` may wait, and may lead to more."""

    def __init__(self, perform: Callable[[Action], None]) -> None:
        self._perform = perform
        self._actions: deque[Action] = deque()
        self._more, self._less = Signal(), Signal()
        self._less.set()

    def __len__(self) -> int:
        return len(self._actions)

    def add(self, actions: Sequence[Action]) -> None:
        if actions:
            self._actions.extend(actions)
            self._more.set()
            if len(self._actions) > MAX_UNDONE:
                self._less.clear()

    def wait_for_room(self) -> None:
        """Until not too many are undone: what an agent says next can wait in its socket."""
        self._less.wait()

    def perform_all(self) -> None:
        """For ever; run in a greenlet."""
        while True:
            self._more.wait()
            self._more.clear()
            while self._actions:
                self._perform(self._actions.popleft())
                if len(self._actions) < MAX_UNDONE // 2:
                    self._less.set()
