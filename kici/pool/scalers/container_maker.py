"""Makes one agent's container: created, started, whatever stands in the way removed (3.3)."""

import logging
import re
import time
from collections.abc import Callable
from typing import Any

import gevent

from kici.pool.scalers import container_body as made
from kici.pool.scalers.base import KILL_S, LaunchSpec
from kici.pool.scalers.container_yard import Yard
from kici.pool.scalers.engine import CONFLICT, EngineError

log = logging.getLogger("kici.pool.container")
_NO_INIT = re.compile(r"docker-init|catatonit|tini|container-init|init binary", re.IGNORECASE)


class Cancelled(BaseException):
    """Thrown into an agent's greenlet by ``reap``; no library may swallow it."""


class ContainerMaker:
    """Owns: the container's id, and whether one may exist that we did not hear of. Told by:
    the agent. ``given_up`` says whether the agent is to end."""

    def __init__(self, yard: Yard, agent_id: str, given_up: Callable[[], bool]) -> None:
        self.container_id = ""
        #: The engine was asked for one, so it may have made it.
        self.tried = False
        #: It is being asked: not to be cancelled half way.
        self.asking = False
        self._yard, self._calls = yard, yard.calls
        self._agent_id, self._given_up = agent_id, given_up

    def make(self, spec: LaunchSpec, image: str) -> None:
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
            self.make(spec, image)

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
        name = made.container_name(self._agent_id)
        self.tried = True
        try:
            self._create_whole(body, name)
        except EngineError as error:
            if error.kind != CONFLICT:
                raise
            # Our own leftover of a request whose answer was lost; never anybody else's.
            for one in self._calls.mine(self._agent_id):
                self._make_room(one.container_id)
            self._create_whole(body, name)

    def _create_whole(self, body: dict[str, Any], name: str) -> None:
        """Not cancelled half way: an engine goes on creating when nobody waits, and makes
        the container after we looked for it."""
        self.asking = True
        try:
            self.container_id = self._calls.create(body, name)
        finally:
            self.asking = False
        if self._given_up():
            raise Cancelled

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
