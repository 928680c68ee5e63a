"""Looks at the backends again and again: are they well, and what exists that nobody knows?"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic

import gevent
from gevent.event import Event as Signal

from kici.pool.events import AgentsFound, AgentsSought, Event, HealthChanged
from kici.pool.scalers.base import Backend, CannotLook, FoundAgent

_log = logging.getLogger("kici.pool")
#: Between two looks at the backends' health.
HEALTH_EVERY_S = 10.0
#: While one of them is not well: jobs may be waiting for it.
UNWELL_EVERY_S = 2.0
#: Between two looks for agents that nobody knows (scaler spec 3.10).
RECONCILE_EVERY_S = 60.0


class Lookout:
    """Owns: what was last seen of each backend. Told by: the fleet. Tells: the core.

    ``backends`` are the present ones by scaler; ``strangers`` leaves of found agents those
    that the fleet does not know, and takes their shares of the machine.
    """

    def __init__(
        self,
        backends: Mapping[str, Backend],
        strangers: Callable[[str, Sequence[FoundAgent]], Sequence[FoundAgent]],
        tell: Callable[[Event], None],
    ) -> None:
        self._backends = backends
        self._strangers = strangers
        self._tell = tell
        self._health: dict[str, str] = {}
        #: Strangers of the last look: one that only just ends is no stranger a minute later.
        self._suspects: dict[str, set[str]] = {}
        self._sooner = Signal()
        self._looking: set[str] = set()

    def watch(self) -> None:
        """For ever; run in a greenlet."""
        reconcile_at = monotonic() + RECONCILE_EVERY_S
        while True:
            self._sooner.wait(UNWELL_EVERY_S if self._unwell() else HEALTH_EVERY_S)
            self._sooner.clear()
            due = monotonic() >= reconcile_at
            if due:
                reconcile_at = monotonic() + RECONCILE_EVERY_S
            for name, backend in list(self._backends.items()):
                self._check(name, backend, due)

    def look_sooner(self) -> None:
        """Something went wrong: a backend's health may have changed."""
        self._sooner.set()

    def expect(self, names: Iterable[str], *, complete: bool = True) -> None:
        """Nothing of these is started until ``first_look`` has told what exists. Not
        ``complete``: there may be agents of further ones, which nobody will tell of."""
        self._tell(AgentsSought(list(names), complete))

    def first_look(self, name: str, backend: Backend) -> None:
        self._looking.add(name)
        gevent.spawn(self._look, name, backend)

    def unusable(self, name: str, reason: str, *, certain: bool) -> None:
        """There is no backend and will be none; ``certain``: there never was one."""
        self._set_health(name, reason)
        self._tell(AgentsFound(name, [], certain))

    def forget(self, name: str) -> None:
        self._health.pop(name, None)
        self._suspects.pop(name, None)

    def _unwell(self) -> bool:
        return any(self._health.get(name) for name in self._backends)

    def _check(self, name: str, backend: Backend, reconcile: bool) -> None:
        if name in self._looking:
            return
        reason = backend.health()
        if not reason and self._health.get(name):
            # It may hold agents that nobody could ask for (an engine that came late).
            self.expect([name])
            self.first_look(name, backend)
            return
        self._set_health(name, reason)
        if reconcile and not reason:
            gevent.spawn(self._look_again, name, backend)

    def _look(self, name: str, backend: Backend) -> None:
        found: Sequence[FoundAgent] = []
        certain = True
        try:
            reason = backend.health()
            found = self._strangers(name, backend.found())
        except CannotLook as error:
            reason, certain = backend.health() or str(error), False
        finally:
            self._looking.discard(name)
        if self._backends.get(name) is backend:
            self._set_health(name, reason)
            self._tell(AgentsFound(name, found, certain))

    def _look_again(self, name: str, backend: Backend) -> None:
        try:
            found = backend.found()
        except CannotLook as error:
            _log.warning("Cannot look for agents of %s: %s", name, error)
            return
        before = self._suspects.get(name, set())
        self._suspects[name] = {one.agent_id for one in found}
        strangers = self._strangers(name, [one for one in found if one.agent_id in before])
        if strangers and self._backends.get(name) is backend:
            _log.warning("Found %d agents that nobody knew", len(strangers))
            self._tell(AgentsFound(name, strangers))

    def _set_health(self, name: str, reason: str) -> None:
        if self._health.get(name) != reason:
            self._health[name] = reason
            self._tell(HealthChanged(name, reason))
