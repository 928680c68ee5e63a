"""Follows what one container writes, for the log and for the report of its end (3.3, 3.6)."""

import logging
from typing import Any

import gevent

from kici.pool.scalers.agent_output import AgentOutput
from kici.pool.scalers.base import LaunchSpec
from kici.pool.scalers.container_calls import Calls, close_stream
from kici.pool.scalers.engine import TRANSPORT, EngineError
from kici.redaction import is_secret_name, redact

log = logging.getLogger("kici.pool.container")
#: Shorter values are no secrets, and would blacken half of a text.
_MIN_SECRET = 6


class ContainerOutput:
    """Owns: the followed stream and its reader. Told by: the agent."""

    def __init__(self, agent_id: str, source: str, calls: Calls) -> None:
        self._agent_id, self._calls = agent_id, calls
        self._output = AgentOutput(agent_id, source)
        self._follower: Any = None
        self._stream: Any = None

    def follow(self, container_id: str, *, adopted: bool) -> None:
        """Read the output from its beginning; a failure is only said (3.3, step 10)."""
        try:
            self._stream = self._calls.output(container_id, adopted=adopted)
        except EngineError as error:
            log.warning("No output of the agent: %s", error, extra={"agentId": self._agent_id})
            return
        self._follower = gevent.spawn(self._read)

    def _read(self) -> None:
        try:
            for data in self._stream:
                self._output.feed(data)
        except (*TRANSPORT, ValueError) as error:
            log.debug("Output of the agent ended: %s", error, extra={"agentId": self._agent_id})
        self._output.finish()

    def join(self, timeout_s: float) -> None:
        """Wait for the rest of an ended container's output."""
        if self._follower is not None:
            self._follower.join(timeout_s)

    def tail(self) -> str:
        return self._output.tail()

    def release(self) -> None:
        if self._follower is not None:
            self._follower.kill()
        if self._stream is not None:
            close_stream(self._stream)


def without_secrets(text: str, spec: LaunchSpec | None) -> str:
    """``text`` without this agent's secrets: an engine may quote what it was sent."""
    environment = dict(spec.env) if spec is not None else {}
    for name, value in environment.items():
        if len(value) >= _MIN_SECRET and is_secret_name(name):
            text = text.replace(value, "***")
    auth = (spec.registry_auth or {}) if spec is not None else {}
    for value in auth.values():
        if isinstance(value, str) and len(value) >= _MIN_SECRET and value in text:
            text = text.replace(value, "***")
    return redact(text)
