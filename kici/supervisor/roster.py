"""The child table: who there is, and who is told what about it."""

import os
import signal
import time
from collections.abc import Iterable, Mapping

from kici.contracts.link import Message
from kici.contracts.link.lifecycle import SnapshotRequest
from kici.contracts.states import ChildName
from kici.supervisor.children import Child
from kici.supervisor.status import ServiceStatus

#: Who is asked to say everything again when a reader has (re)started (docs/architecture.md).
_OWNERS_READ_BY: Mapping[ChildName, tuple[ChildName, ...]] = {
    ChildName.PEER: (ChildName.POOL,),
    ChildName.POOL: (ChildName.PEER,),
    ChildName.WEB: (ChildName.PEER, ChildName.POOL),
}
#: What children get to die after SIGTERM when the supervisor itself broke.
_ABANDON_S = 3.0


class Roster:
    """Owns: the children by name, and the ``rev`` of what is said about them."""

    def __init__(self, service: ServiceStatus) -> None:
        self._service = service
        self._children: dict[ChildName, Child] = {}
        self._rev = 0

    def add(self, child: Child) -> None:
        self._children[child.name] = child

    def __getitem__(self, name: ChildName) -> Child:
        return self._children[name]

    def __iter__(self) -> Iterable[Child]:
        return iter(self._children.values())

    def tell(self, names: Iterable[ChildName], message: Message) -> None:
        for name in names:
            self._children[name].tell(message)

    def tell_all(self, message: Message) -> None:
        self.tell(self._children, message)

    def changed(self, child: Child) -> None:
        """Pid, state or readiness: web is told, and the service manager."""
        if not child.refresh():
            return
        self._rev += 1
        web = self._children.get(ChildName.WEB)
        if web is not None:
            web.tell(child.view(self._rev))
        states = {str(one.name): one.view(0).state for one in self}
        self._service.children(states, all(one.ready for one in self))

    def introduce(self, child: Child) -> None:
        """A child's links are open: those it reads from say everything again, in full."""
        self.tell(_OWNERS_READ_BY[child.name], SnapshotRequest(reader=child.name))
        if child.name == ChildName.WEB:
            self._rev += 1
            for one in self:
                child.tell(one.view(self._rev))

    def kill_all(self) -> None:
        """SIGKILL; nobody is started again."""
        for child in self:
            child.leaving = True
            child.kill_now()

    def abandon(self) -> None:
        """After an uncaught exception: end and reap the children by plain means, without the
        library. Agents are left alone, to be adopted by the next start."""
        pids = {child.pid for child in self if child.alive}
        for number in (signal.SIGTERM, signal.SIGKILL):
            until = time.monotonic() + _ABANDON_S
            for pid in pids:
                os.kill(pid, number)  # not reaped yet: the pid is still theirs
            while pids and time.monotonic() < until:
                pids = {pid for pid in pids if os.waitpid(pid, os.WNOHANG)[0] == 0}
                time.sleep(0.01)
