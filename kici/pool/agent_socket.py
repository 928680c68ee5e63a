"""One agent's socket: reads frames into its session, performs what the session decides."""

import contextlib
import logging
from time import monotonic
from typing import Protocol

import gevent
from gevent.event import AsyncResult
from gevent.queue import Full, Queue

from kici.contracts.wire import Wire, encode
from kici.contracts.wire.agent import MAX_FRAME_BYTES
from kici.contracts.wire.agent.session import AgentRegister, RegisterAck
from kici.errors import RemoteError
from kici.pool.bundles import Bundle
from kici.pool.seam import TokenGrant
from kici.protocol.agent_actions import Bundled, PingAgent, Registration, Said
from kici.protocol.agent_session import AgentSession, Phase
from kici.protocol.bundle_pieces import BundleFailed
from kici.protocol.machine import Action, Actions, Close, Note, Send
from kici.shell.websocket import Disconnected
from kici.shell.websocket_server import ServerConnection

_log = logging.getLogger(__name__)
#: Frames waiting for an agent that does not read; it gets about five in a job's life.
WRITE_QUEUE_LENGTH = 500
#: How long an agent may leave answers to its own questions unread.
ANSWER_TIMEOUT_S = 30.0
#: How long an agent has to answer our close frame.
CLOSE_TIMEOUT_S = 5.0
_LEVELS = {"error": logging.ERROR, "warn": logging.WARNING, "info": logging.INFO}


class GivePongs(Action, frozen=True):
    """Answer the ping that waits."""


class Server(Protocol):
    """What a socket asks of the agent server."""

    def register(
        self, socket: "AgentSocket", message: AgentRegister, grant: TokenGrant | None
    ) -> RegisterAck | RemoteError: ...

    def said(self, socket: "AgentSocket", message: Wire) -> None: ...

    def gone(self, socket: "AgentSocket", reason: str) -> None: ...


class AgentSocket:
    """Owns: one WebSocket, its session and its write queue. Implements ``AgentConnection``.

    Two greenlets: ``run`` reads, ``_write`` writes. Reading is as slow as the core wants it:
    a core that blocks in ``said`` holds this agent back and no other.
    """

    def __init__(self, server: Server, session: AgentSession, connection: ServerConnection) -> None:
        self.connection_id = session.connection_id
        self.agent_id = ""
        self.grant: TokenGrant | None = None
        self.bundles: dict[str, tuple[Bundle, AsyncResult[int]]] = {}
        self._server = server
        self._session = session
        self._connection = connection
        self._queue: Queue[str | bytes | Close | PingAgent | GivePongs] = Queue(WRITE_QUEUE_LENGTH)
        self._held: list[bytes] | None = None
        self._reason = ""
        self._writer = gevent.spawn(self._write)
        self._reader: object = None

    @property
    def registered(self) -> bool:
        return self._session.phase is Phase.REGISTERED

    # --- AgentConnection -------------------------------------------------------------

    def send(self, message: Wire) -> bool:
        frame = encode(message)
        if len(frame) > MAX_FRAME_BYTES:
            _log.error("Frame of %d bytes is too large for an agent", len(frame))
            return False
        if self._session.phase is Phase.OVER or self._connection.closed:
            return False
        if self._held is not None:
            self._held.append(frame)  # said before its register.ack: goes out after it
            return True
        return self._enqueue(frame)

    def close(self, code: int, reason: str) -> None:
        self._perform(self._session.closing(code, reason))

    def pause(self) -> None:
        self._connection.pause()
        self._session.paused(True, monotonic())

    def resume(self) -> None:
        self._session.paused(False, monotonic())
        self._connection.resume()

    def hold_receipts(self) -> None:
        self._connection.hold_pongs()

    def give_receipts(self) -> None:
        self._enqueue(GivePongs())  # the writer waits for the socket, the core must not

    # --- for the server --------------------------------------------------------------

    def revoked(self) -> None:
        self._perform(self._session.revoked())

    def superseded(self) -> None:
        self._perform(self._session.superseded())

    def run(self) -> None:
        """Serve until the connection is over."""
        self._reader = gevent.getcurrent()
        try:
            self._perform(self._session.start(monotonic()))
            while True:
                self._step()
        except Disconnected as ended:
            self._reason = self._reason or f"{ended.code} {ended.reason}".strip()
        finally:
            self._session.lost(self._reason, monotonic())
            self._connection.abort()
            self._writer.kill()
            for _bundle, result in self.bundles.values():
                result.set_exception(BundleFailed("the agent is gone", "unreachable"))
            self.bundles.clear()
            self._server.gone(self, self._reason)

    # --- inside ----------------------------------------------------------------------

    def _step(self) -> None:
        deadline = self._session.deadline
        timeout_s = None if deadline is None else max(0.001, deadline - monotonic())
        try:
            frame = self._connection.receive(timeout_s)
        except TimeoutError:
            self._session.heard(self._connection.last_heard_at)
            self._perform(self._session.tick(monotonic()))
        else:
            was_stranger = self._session.phase is Phase.PENDING_AUTH
            self._perform(self._session.receive(frame, monotonic()))
            if was_stranger and self._session.phase is Phase.PENDING_REGISTER:
                self._connection.allow(MAX_FRAME_BYTES)

    def _perform(self, actions: Actions) -> None:
        for action in actions:
            if isinstance(action, Said):
                self._server.said(self, action.message)
            elif isinstance(action, Send):
                self._answer(action.text)
            elif isinstance(action, Close):
                self._reason = f"{action.code} {action.reason}"
                self._enqueue(action)
            elif isinstance(action, Registration):
                self._register(action)
            elif isinstance(action, PingAgent):
                self._enqueue(action)
            elif isinstance(action, Bundled):
                self._bundle(action)
            elif isinstance(action, Note):
                _log.log(_LEVELS[action.level], action.message, extra=dict(action.fields))

    def _register(self, action: Registration) -> None:
        self.agent_id, self.grant = action.message.agent_id, action.grant
        self._held = []
        try:
            answer = self._server.register(self, action.message, action.grant)
        finally:
            held, self._held = self._held, None
        if isinstance(answer, RemoteError):
            self._perform(self._session.refused(answer))
            return
        self._perform(self._session.registered(answer, monotonic()))
        for frame in held:
            self._enqueue(frame)

    def _bundle(self, action: Bundled) -> None:
        """Pieces that nobody asked this agent for are thrown away."""
        request_id = action.message.request_id
        waiting = self.bundles.get(request_id)
        if waiting is None:
            return
        bundle, result = waiting
        try:
            if not bundle.add(action.message):
                return
            result.set(bundle.n_bytes)
        except BundleFailed as failed:
            result.set_exception(failed)
        self.bundles.pop(request_id, None)

    def _answer(self, text: str | bytes) -> None:
        """Who asks faster than it reads the answers is not read meanwhile."""
        if gevent.getcurrent() is not self._reader:
            self._enqueue(text)  # the core must never wait for an agent
            return
        try:
            self._queue.put(text, timeout=ANSWER_TIMEOUT_S)
        except Full:
            self._reason = "takes no answers"
            self._connection.abort()

    def _enqueue(self, item: str | bytes | Close | PingAgent | GivePongs) -> bool:
        try:
            self._queue.put_nowait(item)
        except Full:
            self._reason = f"takes no data: {WRITE_QUEUE_LENGTH} frames wait"
            self._connection.abort()
            return False
        return True

    def _write(self) -> None:
        with contextlib.suppress(Disconnected):
            while True:
                item = self._queue.get()
                if isinstance(item, Close):
                    # The reader goes on until the answer has come.
                    self._connection.close(item.code, item.reason, CLOSE_TIMEOUT_S)
                    return
                if isinstance(item, PingAgent):
                    self._connection.ping()
                elif isinstance(item, GivePongs):
                    self._connection.give_pongs()
                else:
                    self._connection.send_text(item)
