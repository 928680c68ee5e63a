"""Containers of this worker and scaler that nobody watches: offered, adopted or removed (3.10)."""

import logging
import time
from collections.abc import Callable, Sequence

from kici.pool.scalers.container_calls import Calls, Seen
from kici.pool.scalers.container_yard import Yard
from kici.pool.scalers.engine import EngineError

log = logging.getLogger("kici.pool.container")
#: A running container of ours that was offered through ``found`` and that nobody adopts or
#: reaps for so long is a leftover: the core does either within seconds. One that was never
#: offered (the engine was away then) may be at work, and stays until a later ``found``.
LEFTOVER_S = 600.0
_LEFTOVER_GRACE_S = 5.0
#: A container that is created and not started: longer than any of our own takes for that.
_UNSTARTED_S = 120.0


class ContainerLeftovers:
    """Owns: what is known of containers whose agent nobody watches. Told by: the backend.

    ``watched`` says of an agent whether this backend or another object of this process has
    it: its container is left alone whatever its state is, because a start may be half done
    and an end half read.
    """

    def __init__(self, yard: Yard, watched: Callable[[str], bool]) -> None:
        self._yard, self._watched = yard, watched
        self._calls: Calls = yard.calls
        #: Agents whose container could not be removed because the engine was away.
        self._condemned: set[str] = set()
        #: Container ids told to the core through ``found``.
        self._offered: set[str] = set()
        self._first_seen: dict[str, float] = {}

    def condemn(self, agent_id: str) -> None:
        """The agent's end is reported; its container goes when the engine answers."""
        self._condemned.add(agent_id)

    def offer(self, seen: Sequence[Seen]) -> list[Seen]:
        """The living ones, for the core to adopt or reap. The condemned are as good as gone."""
        living = [
            one
            for one in self._unwatched(seen)
            if one.alive and one.agent_id and one.agent_id not in self._condemned
        ]
        self._offered |= {one.container_id for one in living}
        return living

    def reap(self, agent_id: str, grace_s: float) -> None:
        """Found after a restart and not wanted, or unknown: then there is nothing to do."""
        try:
            for one in self._calls.mine(agent_id):
                self._discard(one, grace_s, "it was ordered")
        except EngineError as error:
            self.condemn(agent_id)
            log.warning("Agent cannot be reaped yet: %s", error, extra={"agentId": agent_id})

    def clear(self, seen: Sequence[Seen]) -> None:
        """Only this worker's, only this scaler's; why is said each time."""
        now = time.monotonic()
        strangers = self._unwatched(seen)
        ids = {one.container_id for one in strangers}
        self._first_seen = {key: at for key, at in self._first_seen.items() if key in ids}
        self._offered &= ids
        for one in strangers:
            since = self._first_seen.setdefault(one.container_id, now)
            if one.agent_id in self._condemned:
                self._discard(one, 0.0, "it could not be removed before")
            elif one.ended:
                self._discard(one, 0.0, "it ended while nobody watched")
            elif not one.alive and now - since >= _UNSTARTED_S:
                self._discard(one, 0.0, "it was never started")
            elif one.container_id in self._offered and now - since >= LEFTOVER_S:
                self._discard(one, _LEFTOVER_GRACE_S, "nobody claims it")
        self._condemned &= {one.agent_id for one in seen}

    def _unwatched(self, seen: Sequence[Seen]) -> list[Seen]:
        return [one for one in seen if not self._watched(one.agent_id)]

    def _discard(self, one: Seen, grace_s: float, why: str) -> None:
        extra = {"agentId": one.agent_id, "containerId": one.container_id[:12], "reason": why}
        log.info("Removing a container", extra=extra)
        if one.alive and grace_s > 0:
            self._calls.stop(one.container_id, grace_s)
        self._calls.remove(one.container_id)
        self._yard.dismiss(one.address)
