"""Views for web, which must never hold up jobs: a dead or slow web process misses some, and
gets the newest of each kind when it reads again."""

from collections.abc import Callable, Hashable

import gevent

from kici.contracts.link import Message
from kici.contracts.link.views import AgentView, JobView, PoolCapacity

#: Views kept for a web process that does not read; older ones are dropped beyond that.
MAX_MISSED = 2000
#: Between two tries to tell what was missed.
RETRY_S = 0.2


class Showing:
    """Owns: the views that web has not got. ``try_tell`` says whether it took one."""

    def __init__(self, try_tell: Callable[[Message], bool]) -> None:
        self._try_tell = try_tell
        self._missed: dict[Hashable, Message] = {}
        self._retrying = False

    def show(self, view: Message) -> None:
        """Tell ``view`` now, or its newest successor later; log tails are just dropped."""
        if not self._missed and self._try_tell(view):
            return
        match view:
            case JobView(key=key):
                self._keep(key, view)
            case AgentView(agent_id=agent_id):
                self._keep(agent_id, view)
            case PoolCapacity():
                self._keep(PoolCapacity, view)

    def _keep(self, name: Hashable, view: Message) -> None:
        self._missed.pop(name, None)
        self._missed[name] = view
        if len(self._missed) > MAX_MISSED:
            del self._missed[next(iter(self._missed))]
        if not self._retrying:
            self._retrying = True
            gevent.spawn_later(RETRY_S, self._retry)

    def _retry(self) -> None:
        self._retrying = False
        while self._missed:
            name = next(iter(self._missed))
            if not self._try_tell(self._missed[name]):
                self._retrying = True
                gevent.spawn_later(RETRY_S, self._retry)
                return
            del self._missed[name]
