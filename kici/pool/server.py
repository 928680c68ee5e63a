"""Every agent's connection: accepts passed sockets, gates them, feeds the core.

The pool's main gives each ``socket.passed`` with its descriptor to ``take``.
"""

import contextlib
import logging
from collections.abc import Sequence
from typing import BinaryIO, Protocol
from uuid import uuid4

import gevent
from gevent.event import AsyncResult
from gevent.pool import Group

from kici.contracts.link.views import SocketPassed
from kici.contracts.wire import Wire
from kici.contracts.wire.agent import MAX_FRAME_BYTES
from kici.contracts.wire.agent.services import FleetLogsRequest
from kici.contracts.wire.agent.session import AgentRegister, RegisterAck
from kici.errors import RemoteError
from kici.pool.agent_socket import AgentSocket
from kici.pool.bundles import BUNDLE_TIMEOUT_S, MAX_BUNDLE_BYTES, Budget, Bundle
from kici.pool.seam import AgentEvents, TokenGrant
from kici.protocol.agent_session import AgentSession
from kici.protocol.bundle_pieces import BundleFailed
from kici.shell.websocket import UpgradeRefused
from kici.shell.websocket_server import MAX_STRANGER_SIZE, accept_passed, refuse_passed

_log = logging.getLogger(__name__)
#: Sockets at once, registered or not: each costs two greenlets and a descriptor, and the
#: hard limit of descriptors is 20,000 on common machines.
MAX_CONNECTIONS = 5000
COLLISION = 4003
PERSIST_AGAIN_S = 30.0


class Tokens(Protocol):
    """What of ``tokens.TokenIssuer`` the server needs."""

    def verify(self, token: str) -> TokenGrant | None: ...

    def bind(
        self, grant: TokenGrant, agent_id: str, labels: Sequence[str]
    ) -> TokenGrant | None: ...

    def hold(self, agent_id: str) -> None: ...

    def revoke(self, token_id: str) -> None: ...

    def persist(self) -> None: ...


class AgentServer:
    """Owns: the agents' sockets, and which of them speaks for an agent id.

    Told by: the pool's main (``take``), the core (through ``AgentConnection``).
    ``auth`` is ``settings.agent_auth``: "token" or "none".
    """

    def __init__(self, events: AgentEvents, tokens: Tokens, *, auth: str = "token") -> None:
        self._events = events
        self._tokens = tokens
        self._auth = auth
        self._sockets: set[AgentSocket] = set()
        self._by_agent: dict[str, AgentSocket] = {}
        self._greenlets = Group()
        #: The disk did not take what was revoked: it is tried again.
        self._persisting = False

    @property
    def n_connections(self) -> int:
        return len(self._greenlets)

    # --- for the pool's main ---------------------------------------------------------

    def take(self, passed: SocketPassed, fd: int) -> None:
        """Serve the socket ``fd`` in a greenlet of its own; returns at once."""
        if len(self._greenlets) >= MAX_CONNECTIONS:
            _log.error("Too many agent connections", extra={"remote": passed.remote})
            refuse_passed(fd)
            return
        self._greenlets.spawn(self._serve, passed, fd)

    def revoke(self, token_id: str) -> int:
        """``token.revoked``: refuse the token and end its agents (A26); how many those are."""
        self._tokens.revoke(token_id)
        using = [one for one in self._sockets if one.grant and one.grant.token_id == token_id]
        for socket in using:
            socket.revoked()
        self._persist()
        if using:
            _log.info(
                "Kicked agent connections after cross-peer revoke",
                extra={"tokenId": token_id, "kicked": len(using)},
            )
        return len(using)

    def _persist(self) -> None:
        """A full disk must not end the pool, nor the revocation."""
        if self._persisting:
            return
        try:
            self._tokens.persist()
        except OSError as error:
            _log.error("Revoked agent tokens are not on disk", extra={"error": str(error)})
            self._persisting = True
            gevent.spawn(self._persist_later)

    def _persist_later(self) -> None:
        while self._persisting:
            gevent.sleep(PERSIST_AGAIN_S)
            with contextlib.suppress(OSError):
                self._tokens.persist()
                self._persisting = False

    def close(self, code: int, reason: str, timeout_s: float) -> None:
        """End every connection (1001 when we leave) within ``timeout_s``."""
        for socket in list(self._sockets):
            socket.close(code, reason)
        self._greenlets.join(timeout_s)
        self._greenlets.kill()

    def agent_ids(self) -> list[str]:
        """The agents that are connected now."""
        return list(self._by_agent)

    def collect_logs(
        self,
        agent_id: str,
        hours: float,
        sink: BinaryIO,
        budget: Budget,
        timeout_s: float = BUNDLE_TIMEOUT_S,
    ) -> int:
        """Write the log bundle (a ZIP) of a connected agent to ``sink``; its size in bytes.
        ``BundleFailed`` (A84, A85)."""
        socket = self._by_agent.get(agent_id)
        request_id = str(uuid4())
        request = FleetLogsRequest(
            request_id=request_id, log_window_hours=hours, max_bytes=MAX_BUNDLE_BYTES
        )
        if socket is None or not socket.send(request):
            raise BundleFailed(f"agent {agent_id} is not connected", "unreachable")
        result: AsyncResult[int] = AsyncResult()
        socket.bundles[request_id] = (Bundle(sink, budget), result)
        try:
            n_bytes: int = result.get(timeout=timeout_s)
            return n_bytes
        except gevent.Timeout:
            raise BundleFailed(f"no bundle within {timeout_s:.0f} s", "timeout") from None
        finally:
            socket.bundles.pop(request_id, None)

    # --- for the sockets -------------------------------------------------------------

    def register(
        self, socket: AgentSocket, message: AgentRegister, grant: TokenGrant | None
    ) -> RegisterAck | RemoteError:
        """Gate 3, then the core; a connection of the same agent is superseded (A17)."""
        current = self._by_agent.get(message.agent_id)
        if current is socket:
            current = None
        if current is not None and _token_id(current.grant) != _token_id(grant):
            return RemoteError(COLLISION, "AgentId already registered with a different token")
        answer = self._events.registered(socket, message)
        if isinstance(answer, RemoteError):
            return answer
        self._by_agent[message.agent_id] = socket
        if grant is not None:
            self._tokens.hold(message.agent_id)
        if current is not None:
            current.superseded()
        return answer

    def said(self, socket: AgentSocket, message: Wire) -> None:
        # A superseded connection is not the agent any more.
        if self._by_agent.get(socket.agent_id) is socket:
            self._events.said(socket, message)

    def gone(self, socket: AgentSocket, reason: str) -> None:
        self._sockets.discard(socket)
        if self._by_agent.get(socket.agent_id) is socket:
            del self._by_agent[socket.agent_id]
            self._events.lost(socket, reason)
        else:
            self._events.forgotten(socket)

    # --- inside ----------------------------------------------------------------------

    def _serve(self, passed: SocketPassed, fd: int) -> None:
        try:
            connection = accept_passed(
                fd,
                passed.headers,
                passed.path,
                passed.early,
                remote=passed.remote,
                max_size=MAX_STRANGER_SIZE if self._auth == "token" else MAX_FRAME_BYTES,
            )
        except (UpgradeRefused, OSError) as error:
            _log.info("Agent upgrade failed: %s", error, extra={"remote": passed.remote})
            return
        session = AgentSession(
            str(uuid4()),
            verify=self._tokens.verify if self._auth == "token" else None,
            bind=self._tokens.bind,
        )
        socket = AgentSocket(self, session, connection)
        self._sockets.add(socket)
        socket.run()


def _token_id(grant: TokenGrant | None) -> str | None:
    return None if grant is None else grant.token_id
