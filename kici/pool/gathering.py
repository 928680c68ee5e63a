"""Gathers the log bundles of agents for the peer (peer spec 4.18, agent spec 2.1.14)."""

from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import BinaryIO, Protocol

import gevent
from gevent.pool import Pool

from kici.contracts.link import Message
from kici.contracts.link.logs import AgentLogs, LogsCancel, LogsGathered, LogsRequest
from kici.pool.bundles import Budget, BundleFailed
from kici.shell.unnamed_file import pass_on, unnamed_file

#: Agents asked at the same moment: each costs a file.
MAX_ASKED = 100
#: Agents of one request; more make a bundle that nobody reads.
MAX_AGENTS = 500
#: Of one request, all agents together; the files may be in memory (tmpfs).
MAX_TOTAL_BYTES = 64 * 2**20
#: Requests at the same time: one a coordinator, few of which look at the same moment.
MAX_REQUESTS = 4
#: A ZIP begins so, an empty one too.
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")

Tell = Callable[[str, Message, Sequence[int]], None]


class Agents(Protocol):
    """What of ``AgentServer`` is needed."""

    def agent_ids(self) -> list[str]: ...

    def collect_logs(
        self, agent_id: str, hours: float, sink: BinaryIO, budget: Budget, timeout_s: float
    ) -> int: ...


class Gatherings:
    """Owns: the requests that are being answered. Told by: the peer."""

    def __init__(self, agents: Agents, tell: Tell, directory: str) -> None:
        self._agents = agents
        self._tell = tell
        self._directory = directory
        self._running: dict[str, gevent.Greenlet] = {}

    def heard(self, message: LogsRequest | LogsCancel) -> None:
        """Returns at once."""
        if isinstance(message, LogsCancel):
            self._stop(message.request_id)
        elif len(self._running) >= MAX_REQUESTS:
            reason = "the worker gathers logs for others already"
            gevent.spawn(self._say, LogsGathered(request_id=message.request_id, reason=reason))
        else:
            greenlet = gevent.spawn(self._gather, message)
            self._running[message.request_id] = greenlet

    def stop(self) -> None:
        """The peer is gone, or we leave."""
        for request_id in list(self._running):
            self._stop(request_id)

    def _stop(self, request_id: str) -> None:
        greenlet = self._running.pop(request_id, None)
        if greenlet is not None:
            greenlet.kill(block=False)

    def _gather(self, wanted: LogsRequest) -> None:
        connected = self._agents.agent_ids()
        named = connected if wanted.agent_ids is None else list(wanted.agent_ids)
        asked, left_out = named[:MAX_AGENTS], len(named) - MAX_AGENTS
        budget, until = Budget(MAX_TOTAL_BYTES), monotonic() + wanted.within_s
        crew = Pool(MAX_ASKED)
        try:
            for agent_id in asked:
                crew.spawn(self._ask, wanted, agent_id, budget, until)
            crew.join()
        finally:
            crew.kill(block=False)
            self._running.pop(wanted.request_id, None)
        reason = f"{left_out} agents above {MAX_AGENTS} were not asked" if left_out > 0 else ""
        self._say(LogsGathered(request_id=wanted.request_id, reason=reason))

    def _ask(self, wanted: LogsRequest, agent_id: str, budget: Budget, until: float) -> None:
        answer = partial(AgentLogs, request_id=wanted.request_id, agent_id=agent_id)
        try:
            left_s = until - monotonic()
            if left_s <= 0:
                raise BundleFailed("its turn did not come in time", "timeout")
            with unnamed_file(self._directory) as file:
                n_bytes = self._agents.collect_logs(agent_id, wanted.hours, file, budget, left_s)
                _check(file)
                done = answer(status="ok", error="", n_bytes=n_bytes)
                pass_on(file, partial(self._tell, "peer", done))
        except BundleFailed as failed:
            self._say(answer(status=failed.status, error=str(failed), n_bytes=0))
        except OSError as error:
            self._say(answer(status="error", error=f"cannot be kept: {error}", n_bytes=0))

    def _say(self, message: Message) -> None:
        self._tell("peer", message, ())


def _check(file: BinaryIO) -> None:
    file.seek(0)
    if not file.read(4).startswith(_ZIP):
        raise BundleFailed("what the agent sent is no ZIP")
