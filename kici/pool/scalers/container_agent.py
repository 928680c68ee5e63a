"""One agent in a container, from launch to the moment nothing of it is left (3.3, 3.8)."""

import contextlib
import logging
import re
import time
from typing import Any

import gevent
from gevent.event import Event

from kici.pool.scalers import container_body as made
from kici.pool.scalers.agent_output import AgentOutput
from kici.pool.scalers.base import KILL_S, EventKind, LaunchSpec
from kici.pool.scalers.container_calls import Ended, close_stream
from kici.pool.scalers.container_yard import Yard
from kici.pool.scalers.engine import (
    CONFLICT,
    DOWN,
    FIRST_ANSWER_S,
    MISSING,
    TRANSPORT,
    EngineError,
)
from kici.pool.scalers.images import login_for
from kici.redaction import is_secret_name, redact

log = logging.getLogger("kici.pool.container")
#: After its end, an agent's output is followed so long before the container is removed.
_OUTPUT_S = 2.0
#: An engine that is just away is asked again so long how a container ended.
_ANSWER_S = 2.0
_NO_INIT = re.compile(r"docker-init|catatonit|tini|container-init|init binary", re.IGNORECASE)


class Cancelled(BaseException):
    """Thrown into an agent's greenlet by ``reap``; no library may swallow it."""


class ContainerAgent:
    """Owns: one agent's container and its output. Told by: the backend.

    ``spec`` None: found and adopted, so it runs already.
    """

    def __init__(self, yard: Yard, agent_id: str, spec: LaunchSpec | None) -> None:
        self.agent_id = agent_id
        self.greenlet: Any = None
        self.container_id = ""
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
        self._create_tried = False
        self._creating = False
        self._changed = Event()
        self._output = AgentOutput(agent_id, self._source())
        self._follower: Any = None
        self._stream: Any = None

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
            self._problem = self._clean(str(error))
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
        if self._living and not self.up and not self._creating and self._spec is not None:
            self.greenlet.kill(Cancelled, block=False)

    def ended(self) -> None:
        """The engine says that the container does not run any more."""
        self._dead = True
        self._changed.set()

    def release(self) -> None:
        """Let go of everything but the container."""
        if self._follower is not None:
            self._follower.kill()
        if self._stream is not None:
            close_stream(self._stream)

    def outcome(self, how: str) -> tuple[EventKind, str]:
        """What the end of this agent is called."""
        kind = EventKind.EXITED if self.up else EventKind.FAILED
        parts = [self._problem if not self.up else "", how if self.up or not self._problem else ""]
        text = "; ".join(part for part in parts if part)
        return kind, self._clean(f"{text}\n{self._output.tail()}".strip())

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
        self._make(spec, image)
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
        self._follow(adopted=False)
        self._now_up()

    def _make(self, spec: LaunchSpec, image: str) -> None:
        """Create and start; once more without an init process where the engine has none."""
        init = self._yard.init
        try:
            self._create(spec, image, init)
            self._calls.start(self.container_id)
        except EngineError as error:
            if not init or not _NO_INIT.search(str(error)):
                raise
            if self._yard.init:
                log.warning("The engine has no init process, going on without: %s", error)
            self._yard.init = False
            failed, self.container_id = self.container_id, ""
            self._make_room(failed)
            self._make(spec, image)

    def _create(self, spec: LaunchSpec, image: str, init: bool) -> None:
        yard, target = self._yard, self._yard.engine.target
        body = made.body(
            spec,
            owner=yard.owner,
            image=image,
            network=made.NETWORK if yard.isolation is not None else None,
            socket_path=target.socket_path if target is not None else None,
            extra_hosts=yard.extra_hosts(),
            init=init,
        )
        name = made.container_name(self.agent_id)
        self._create_tried = True
        try:
            self.container_id = self._create_whole(body, name)
        except EngineError as error:
            if error.kind != CONFLICT:
                raise
            # Our own leftover of a request whose answer was lost; never anybody else's.
            for one in self._calls.mine(self.agent_id):
                self._make_room(one.container_id)
            self.container_id = self._create_whole(body, name)

    def _create_whole(self, body: dict[str, Any], name: str) -> str:
        """Not cancelled half way: an engine goes on creating when nobody waits, and makes
        the container after we looked for it."""
        self._creating = True
        try:
            made_id = self._calls.create(body, name)
        finally:
            self._creating = False
        self.container_id = made_id
        if self._grace_s is not None:
            raise Cancelled
        return made_id

    def _make_room(self, container: str) -> None:
        """Remove a container of ours that stands in the way, however long that takes it."""
        deadline = time.monotonic() + KILL_S
        while container:
            try:
                self._calls.remove(container)
                return
            except EngineError as error:
                if error.kind != CONFLICT or time.monotonic() >= deadline:
                    raise
                gevent.sleep(0.1)

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
        self.container_id, self._address = alive[0].container_id, alive[0].address
        with contextlib.suppress(EngineError):
            self._address = self._address or self._calls.address(self.container_id)
            self._follow(adopted=True)
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

    def _follow(self, *, adopted: bool) -> None:
        """Read the output from its beginning; a failure is only said (3.3, step 10)."""
        try:
            self._stream = self._calls.output(self.container_id, adopted=adopted)
        except EngineError as error:
            log.warning("No output of the agent: %s", error, extra={"agentId": self.agent_id})
            return
        self._follower = gevent.spawn(self._read_output)

    def _read_output(self) -> None:
        try:
            for data in self._stream:
                self._output.feed(data)
        except (*TRANSPORT, ValueError) as error:
            log.debug("Output of the agent ended: %s", error, extra={"agentId": self.agent_id})
        self._output.finish()

    # --- end -------------------------------------------------------------------------

    def _end(self) -> tuple[EventKind, str]:
        """Stop when it runs, read the rest of its output, remove it; errors are swallowed."""
        deadline = time.monotonic() + (self._grace_s or 0.0) + KILL_S
        if self.up and self._grace_s is not None and not self._dead:
            self._calls.stop(self.container_id, self._grace_s)
        how = self._how()
        if self._follower is not None and not how.alive:
            self._follower.join(_OUTPUT_S)
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
        if not self.container_id and not self._create_tried:
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

    # --- words -----------------------------------------------------------------------

    def _source(self) -> str:
        target = self._yard.engine.target
        return target.runtime if target is not None else "docker"

    def _clean(self, text: str) -> str:
        """``text`` without this agent's secrets: an engine may quote what it was sent."""
        environment = dict(self._spec.env) if self._spec is not None else {}
        for name, value in environment.items():
            if len(value) >= 6 and is_secret_name(name):
                text = text.replace(value, "***")
        auth = (self._spec.registry_auth or {}) if self._spec is not None else {}
        for value in auth.values():
            if isinstance(value, str) and len(value) >= 6 and value in text:
                text = text.replace(value, "***")
        return redact(text)
