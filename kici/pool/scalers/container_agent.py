"""One agent in a container, from launch to the moment nothing of it is left (3.3, 3.8)."""

import contextlib
import logging
import time
from typing import Any

import gevent
from gevent.event import Event

from kici.pool.scalers import container_body as made
from kici.pool.scalers.base import KILL_S, EventKind, LaunchSpec
from kici.pool.scalers.container_calls import Ended
from kici.pool.scalers.container_maker import Cancelled, ContainerMaker
from kici.pool.scalers.container_output import ContainerOutput, without_secrets
from kici.pool.scalers.container_yard import Yard
from kici.pool.scalers.engine import DOWN, FIRST_ANSWER_S, MISSING, EngineError
from kici.pool.scalers.images import login_for

log = logging.getLogger("kici.pool.container")
#: After its end, an agent's output is followed so long before the container is removed.
_OUTPUT_S = 2.0
#: An engine that is just away is asked again so long how a container ended.
_ANSWER_S = 2.0


class ContainerAgent:
    """Owns: one agent's container and its output. Told by: the backend.

    ``spec`` None: found and adopted, so it runs already.
    """

    def __init__(self, yard: Yard, agent_id: str, spec: LaunchSpec | None) -> None:
        self.agent_id = agent_id
        self.greenlet: Any = None
        #: It was reported as started.
        self.up = False
        #: The engine was away: its container is still there.
        self.left_behind = False
        self._yard = yard
        self._calls = yard.calls
        self._spec = spec
        self._address = ""
        self._problem = ""
        self._grace_s: float | None = None
        self._give_up_at: float | None = None
        self._living = False
        self._ending = False
        self._dead = False
        self._changed = Event()
        self._maker = ContainerMaker(yard, agent_id, lambda: self._grace_s is not None)
        target = yard.engine.target
        source = target.runtime if target is not None else "docker"
        self._output = ContainerOutput(agent_id, source, yard.calls)

    @property
    def container_id(self) -> str:
        return self._maker.container_id

    # --- told by the backend ---------------------------------------------------------

    def live(self) -> tuple[EventKind, str]:
        """Everything; the final event and its detail."""
        self._living = True
        try:
            if self._spec is None:
                self._take_over()
            elif self._grace_s is not None:
                raise Cancelled
            else:
                self._bring_up(self._spec)
            self._wait()
        except Cancelled:
            self._problem = "stopped before it was started"
        except EngineError as error:
            self._yard.learn(error)
            self._problem = without_secrets(str(error), self._spec)
        except Exception as error:  # noqa: BLE001 - else nobody would hear of the agent's end
            self._problem = without_secrets(f"{type(error).__name__}: {error}", self._spec)
            log.exception("Agent cannot be looked after", extra={"agentId": self.agent_id})
        self._ending = True
        while True:
            try:
                return self._end()
            except Cancelled:
                continue

    def _wait(self) -> None:
        """Until it is ordered to end, or has ended and the engine confirms it: an event may
        concern an earlier try, and no running agent may be removed by mistake."""
        while True:
            self._changed.wait()
            if self._grace_s is not None:
                return
            self._changed.clear()
            with contextlib.suppress(EngineError):
                if not self.container_id or not self._calls.state(self.container_id).alive:
                    return
            self._dead = False

    def reap(self, grace_s: float) -> None:
        if self._grace_s is not None or self._ending:
            return
        self._grace_s = grace_s
        self._give_up_at = time.monotonic() + grace_s + KILL_S
        self._changed.set()
        if self._living and not self.up and not self._maker.asking and self._spec is not None:
            self.greenlet.kill(Cancelled, block=False)

    def ended(self) -> None:
        """The engine says that the container does not run any more."""
        self._dead = True
        self._changed.set()

    def release(self) -> None:
        """Let go of everything but the container."""
        self._output.release()

    def outcome(self, how: str) -> tuple[EventKind, str]:
        """What the end of this agent is called."""
        kind = EventKind.EXITED if self.up else EventKind.FAILED
        parts = [self._problem if not self.up else "", how if self.up or not self._problem else ""]
        text = "; ".join(part for part in parts if part)
        return kind, without_secrets(f"{text}\n{self._output.tail()}".strip(), self._spec)

    # --- beginning -------------------------------------------------------------------

    def _bring_up(self, spec: LaunchSpec) -> None:
        yard = self._yard
        yard.engine.wait_asked(FIRST_ANSWER_S)
        client, target = yard.engine.client(), yard.engine.target
        assert target is not None
        image = spec.image or spec.label_set.image
        if not image:
            raise EngineError(MISSING, "no image is set")
        yard.prepare()
        if yard.isolation is not None:
            yard.isolation.check(spec.label_set.network_policy)
        policy = spec.label_set.image_pull_policy
        login = login_for(image, spec.registry_auth)
        yard.images.ensure(client, target, image, policy, self._progress, login)
        self._progress(f"Creating container from image {image}")
        if yard.isolation is not None:
            yard.tell(self.agent_id, EventKind.NETWORK, f"Joining {made.NETWORK}")
        self._maker.make(spec, image)
        if yard.isolation is not None:
            self._address = self._calls.address(self.container_id)
            if self._address:
                url = spec.env.get("KICI_ORCHESTRATOR_URL", "")
                yard.isolation.admit(self._address, spec.label_set.network_policy, url)
            elif not self._dead:
                log.warning(
                    "Container has no address on %s: unfiltered", made.NETWORK,
                    extra={"agentId": self.agent_id},
                )  # fmt: skip
        self._output.follow(self.container_id, adopted=False)
        self._now_up()

    def _take_over(self) -> None:
        """Adopt. An engine that is away is waited for, until the agent is to be reaped."""
        alive, away = [], True
        while away and not self._given_up():
            try:
                self._yard.engine.up.wait(1.0)
                alive = [one for one in self._calls.mine(self.agent_id) if one.alive]
                away = False
            except EngineError:
                gevent.sleep(0.2)
        self.left_behind = away
        self.up = True
        if not alive:
            self.ended()
            return
        self._maker.container_id, self._address = alive[0].container_id, alive[0].address
        with contextlib.suppress(EngineError):
            self._address = self._address or self._calls.address(self.container_id)
            self._output.follow(self.container_id, adopted=True)
        # It may have ended before our events were looked at for it.
        with contextlib.suppress(EngineError):
            if not self._calls.state(self.container_id).alive:
                self.ended()

    def _given_up(self) -> bool:
        return self._give_up_at is not None and time.monotonic() >= self._give_up_at

    def _now_up(self) -> None:
        self.up = True
        self._yard.tell(self.agent_id, EventKind.STARTED, f"container {self.container_id[:12]}")

    def _progress(self, text: str) -> None:
        self._yard.tell(self.agent_id, EventKind.PROVISIONING, text)

    # --- end -------------------------------------------------------------------------

    def _end(self) -> tuple[EventKind, str]:
        """Stop when it runs, read the rest of its output, remove it; errors are swallowed."""
        deadline = time.monotonic() + (self._grace_s or 0.0) + KILL_S
        if self.up and self._grace_s is not None and not self._dead:
            self._calls.stop(self.container_id, self._grace_s)
        how = self._how()
        if not how.alive:
            self._output.join(_OUTPUT_S)
        self._remove(deadline)
        self.release()
        self._yard.dismiss(self._address)
        ordered = "stopped on order: " if self.up and self._grace_s is not None else ""
        return self.outcome(f"{ordered}{how.text()}")

    def _how(self) -> Ended:
        deadline = time.monotonic() + _ANSWER_S
        while self.container_id:
            try:
                return self._calls.state(self.container_id)
            except EngineError as error:
                if error.kind != DOWN or time.monotonic() >= deadline:
                    break
                gevent.sleep(0.2)
        return Ended(alive=False)

    def _remove(self, deadline: float) -> None:
        """Remove by name: a container whose creation we did not hear of goes too."""
        if not self.container_id and not self._maker.tried:
            return
        name = self.container_id or made.container_name(self.agent_id)
        while True:
            try:
                self._remove_ours(name)
                return
            except EngineError as error:
                if time.monotonic() >= deadline:
                    self.left_behind = True
                    log.error(
                        "Container is left until the engine answers: %s", error,
                        extra={"agentId": self.agent_id},
                    )  # fmt: skip
                    return
                gevent.sleep(0.2 if error.kind != DOWN else 1.0)

    def _remove_ours(self, name: str) -> None:
        if self.container_id:
            self._calls.remove(name)
            return
        for one in self._calls.mine(self.agent_id):
            self._calls.remove(one.container_id)
