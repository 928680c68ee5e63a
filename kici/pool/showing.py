"""Views for web, which must never hold up jobs: a dead or slow web process misses some, and
gets the newest of each kind when it reads again."""

from collections.abc import Callable, Hashable

import gevent

from kici.contracts.link import Message
from kici.contracts.link.views import AgentView, JobView, PoolCapacity
from kici.contracts.states import AgentState, JobState

#: Views kept for a web process that does not read; older ones are dropped beyond that.
MAX_MISSED = 2000
#: Between two tries to tell what was missed.
RETRY_S = 0.2
#: Changes of one job or agent within this time become one view: nobody sees faster, and a
#: quick job changes eight times (0.5 ms of CPU of the pool and of web together).
TOGETHER_S = 0.05
#: States that agents take turns in; all others are counted by web, and told at once.
_OFTEN = frozenset({AgentState.IDLE, AgentState.BUSY})


class Showing:
    """Owns: the views that web has not got. ``try_tell`` says whether it took one."""

    def __init__(self, try_tell: Callable[[Message], bool]) -> None:
        self._try_tell = try_tell
        self._waiting: dict[Hashable, Message] = {}
        self._timer_runs = False
        self._behind = False

    def show(self, view: Message) -> None:
        """Tell ``view`` now, or its newest successor a little later; log tails and refusals
        are dropped while web does not read."""
        match view:
            case JobView(key=key, state=state):
                self._keep(key, view, at_once=state == JobState.FINISHED)
            case AgentView(agent_id=agent_id, state=state):
                self._keep(agent_id, view, at_once=state not in _OFTEN)
            case PoolCapacity():
                self._keep(PoolCapacity, view, at_once=True)
            case _:
                if not self._behind:
                    self._try_tell(view)

    def _keep(self, name: Hashable, view: Message, *, at_once: bool) -> None:
        self._waiting.pop(name, None)
        if at_once and not self._behind and self._try_tell(view):
            return
        self._behind = self._behind or at_once
        self._waiting[name] = view
        if len(self._waiting) > MAX_MISSED:
            del self._waiting[next(iter(self._waiting))]
        self._later(RETRY_S if self._behind else TOGETHER_S)

    def _later(self, seconds: float) -> None:
        if not self._timer_runs:
            self._timer_runs = True
            gevent.spawn_later(seconds, self._tell_waiting)

    def _tell_waiting(self) -> None:
        self._timer_runs = False
        while self._waiting:
            name = next(iter(self._waiting))
            if not self._try_tell(self._waiting[name]):
                self._behind = True
                self._later(RETRY_S)
                return
            del self._waiting[name]
        self._behind = False
