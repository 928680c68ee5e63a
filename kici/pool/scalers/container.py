"""The container backend: agents as containers of Docker or Podman (scaler spec 3, S98-S113).

One greenlet lives with each agent from its launch to the moment nothing of it is left, a
second one follows its output. Ends are seen through the engine's events, and by a poll in
case one is missed or the engine was away.
"""

import logging
import random
from collections.abc import Sequence

import gevent

from kici.config.model import Scaler
from kici.pool.scalers.base import (
    BackendEvent,
    CannotLook,
    CleaningBudget,
    EventKind,
    FoundAgent,
    Held,
    LaunchSpec,
    Report,
    nobody,
)
from kici.pool.scalers.container_agent import ContainerAgent
from kici.pool.scalers.container_calls import Calls, close_stream
from kici.pool.scalers.container_leftovers import ContainerLeftovers
from kici.pool.scalers.container_maker import Cancelled
from kici.pool.scalers.container_yard import Yard
from kici.pool.scalers.engine import FIRST_ANSWER_S, TRANSPORT, Engine, EngineError, classify
from kici.pool.scalers.image_cleaning import clean_images
from kici.pool.scalers.images import Images
from kici.pool.scalers.isolation import Isolation
from kici.pool.scalers.pulled_images import pulled_images

log = logging.getLogger("kici.pool.container")
#: The backup of the event stream, and how soon an engine's absence is noticed.
POLL_S = 30.0
#: What engines call the end of a container.
_ENDS = frozenset({"die", "died", "destroy", "remove"})


class ContainerBackend:
    """Owns: this scaler's containers and the connection to its engine. Told by: the fleet.

    ``nft`` is the packet filter's command, as the engine's network namespace needs it.
    """

    def __init__(
        self,
        scaler: Scaler,
        *,
        owner: str,
        state_dir: str,
        report: Report,
        held: Held = nobody,
        nft: Sequence[str] = ("nft",),
        poll_s: float = POLL_S,
    ) -> None:
        self.on_local_host = not scaler.host
        self._scaler = scaler
        self._report = report
        self._poll_s = poll_s
        self._engine = Engine(scaler)
        self._pulled = pulled_images(state_dir)
        self._calls = Calls(self._engine, owner, scaler.name)
        self._yard = Yard(
            scaler=scaler,
            owner=owner,
            engine=self._engine,
            calls=self._calls,
            images=Images(self._pulled),
            isolation=Isolation(scaler.name, nft) if scaler.network_isolation else None,
            tell=self._tell,
        )
        self._agents: dict[str, ContainerAgent] = {}
        self._leftovers = ContainerLeftovers(
            self._yard, lambda agent_id: agent_id in self._agents or held(agent_id)
        )
        self._helpers = [gevent.spawn(self._watch), gevent.spawn(self._poll)]

    # --- the contract ----------------------------------------------------------------

    def health(self) -> str:
        self._engine.wait_asked(FIRST_ANSWER_S)
        return self._engine.reason or self._yard.trouble()

    def launch(self, spec: LaunchSpec) -> None:
        if spec.agent_id in self._agents:
            raise ValueError(f"agent {spec.agent_id} exists")
        agent = ContainerAgent(self._yard, spec.agent_id, spec)
        self._agents[spec.agent_id] = agent
        agent.greenlet = gevent.spawn(self._live, agent)

    def reap(self, agent_id: str, grace_s: float) -> None:
        agent = self._agents.get(agent_id)
        if agent is None:
            self._helpers.append(gevent.spawn(self._leftovers.reap, agent_id, grace_s))
        else:
            agent.reap(grace_s)

    def found(self) -> Sequence[FoundAgent]:
        self._engine.wait_asked(FIRST_ANSWER_S)
        try:
            seen = self._calls.mine()
        except EngineError as error:
            raise CannotLook(str(error)) from None
        return [
            FoundAgent(
                agent_id=one.agent_id,
                job_id=one.job_id,
                run_id=one.run_id,
                label_set_labels=one.labels,
            )
            for one in self._leftovers.offer(seen)
        ]

    def adopt(self, agent_id: str) -> None:
        if agent_id not in self._agents:
            agent = self._agents[agent_id] = ContainerAgent(self._yard, agent_id, None)
            agent.greenlet = gevent.spawn(self._live, agent)

    def cleans(self) -> str:
        return self._engine.target.base_url if self._engine.target is not None else ""

    def clean(self, budget: CleaningBudget) -> None:
        target = self._engine.target
        try:
            if target is not None:
                clean_images(self._engine.client(), target.base_url, self._pulled, budget)
        except EngineError as error:
            log.warning("Cannot clean up: %s", error, extra={"scaler": self._scaler.name})

    def close(self) -> None:
        gevent.killall([*self._helpers, *(one.greenlet for one in self._agents.values())])
        for agent in self._agents.values():
            agent.release()
        self._engine.close()

    # --- agents ----------------------------------------------------------------------

    def _live(self, agent: ContainerAgent) -> None:
        try:
            kind, detail = agent.live()
        except Cancelled:  # thrown by a reap that came at the very end
            kind, detail = agent.outcome("stopped")
        except Exception:  # noqa: BLE001 - else nobody would hear of its end
            log.exception("Agent cannot be ended", extra={"agentId": agent.agent_id})
            agent.left_behind = True
            agent.release()
            kind, detail = agent.outcome("it is not known how it ended")
        if agent.left_behind:
            self._leftovers.condemn(agent.agent_id)
        self._agents.pop(agent.agent_id, None)
        self._tell(agent.agent_id, kind, detail)

    def _tell(self, agent_id: str, kind: EventKind, detail: str) -> None:
        self._report(BackendEvent(agent_id=agent_id, kind=kind, detail=detail))

    # --- watching --------------------------------------------------------------------

    def _watch(self) -> None:
        """Follow the engine's events whenever it is there."""
        while True:
            self._engine.up.wait()
            try:
                client, stream = self._engine.client(), self._calls.events()
            except EngineError:
                gevent.sleep(random.uniform(0.5, 1.5))
                continue
            try:
                # After the events are on, so that nothing falls between.
                self._reconcile()
                for event in stream:
                    self._ended(event)
            except TRANSPORT as error:
                self._engine.failed(client, classify(error))
            finally:
                close_stream(stream)
            gevent.sleep(random.uniform(0.5, 1.5))

    def _ended(self, event: dict[str, object]) -> None:
        if (event.get("Action") or event.get("status")) not in _ENDS:
            return
        actor = event.get("Actor")
        attributes = actor.get("Attributes") if isinstance(actor, dict) else None
        if isinstance(actor, dict) and isinstance(attributes, dict):
            agent = self._agents.get(str(attributes.get("kici-agent-id")))
            if agent is not None and agent.container_id == actor.get("ID"):
                agent.ended()

    def _poll(self) -> None:
        while True:
            gevent.sleep(self._poll_s * random.uniform(0.9, 1.1))
            self._helpers = [one for one in self._helpers if not one.dead]
            if self._engine.up.is_set():
                self._reconcile()

    def _reconcile(self) -> None:
        """Compare what we think with what is (the engine owns the fact)."""
        up = [agent for agent in self._agents.values() if agent.up]
        try:
            seen = self._calls.mine()
            alive = {one.container_id for one in seen if one.alive}
            for agent in up:
                if agent.container_id not in alive:
                    agent.ended()
            self._leftovers.clear(seen)
            self._yard.sweep()
        except EngineError as error:
            log.warning("Cannot look at containers: %s", error)
