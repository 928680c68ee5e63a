"""States for web: only the newest of each kind is kept, so a web process that is slow or gone
never stops the peer."""

from collections.abc import Callable

import gevent
from gevent.event import Event

from kici.contracts.link import Message
from kici.shell.child import ChildShell

#: Changes within this time become one message.
_TOGETHER_S = 0.1


class Publisher:
    """Owns: what web is to be told next."""

    def __init__(self, shell: ChildShell) -> None:
        self._shell = shell
        self._latest: dict[str, Callable[[], Message]] = {}
        self._changed = Event()
        self._rev = 0
        self.worker = gevent.spawn(self._run)

    def next_rev(self) -> int:
        self._rev += 1
        return self._rev

    def publish(self, kind: str, message: Message) -> None:
        """Tell web ``message`` in place of an older one of the same ``kind``."""
        self.publish_later(kind, lambda: message)

    def publish_later(self, kind: str, make: Callable[[], Message]) -> None:
        """As ``publish``; the message is made when it is its turn, once for all changes."""
        self._latest[kind] = make
        self._changed.set()

    def _run(self) -> None:
        while True:
            self._changed.wait()
            self._changed.clear()
            batch, self._latest = self._latest, {}
            for make in batch.values():
                self._shell.tell("web", make())
            gevent.sleep(_TOGETHER_S)
