"""One open socket to a coordinator: a reader, a ticker and a writer around the pure session.

Only the writer and the ticker send after the handshake, so that a coordinator that does not
read stops this connection's greenlets and nobody else's.
"""

import logging
import time
from collections.abc import Callable
from functools import partial

import gevent
from gevent.event import Event
from websockets.frames import Opcode

from kici.contracts.link import JobKey
from kici.contracts.states import ConnectionState
from kici.peer.credentials import Credentials
from kici.peer.notes import note
from kici.peer.outflow import Outflow
from kici.peer.seam import Desk, Ending
from kici.peer.writer import Writer
from kici.protocol.heartbeat import Advert
from kici.protocol.log_collection import Collect
from kici.protocol.machine import Action, Actions, Close, Note, Send, Tell
from kici.protocol.peer_actions import (
    Authentication,
    Choose,
    Joined,
    Offered,
    Receipted,
    Refused,
    Replay,
)
from kici.protocol.peer_link import leaving
from kici.protocol.peer_session import PeerSession
from kici.shell.websocket_client import ClientConnection, Disconnected

log = logging.getLogger("kici.peer")

#: A close handshake of ours may take this long (4.14).
CLOSE_TIMEOUT_S = 5.0
#: How soon a ping follows frames that nothing else proves to have arrived.
PROVE_S = 0.5
#: After a refusal the coordinator closes with a code that says more than ours would.
_REFUSAL_CLOSE_S = 1.0


class Connection:
    """Owns: one socket and its session. ``moved(state)`` is called on each change of state."""

    def __init__(
        self,
        url: str,
        socket: ClientConnection,
        session: PeerSession,
        outflow: Outflow,
        credentials: Credentials,
        desk: Desk,
        moved: Callable[[ConnectionState], None],
    ) -> None:
        self.session = session
        self.writer = Writer(outflow)
        self._url = url
        self._socket = socket
        self._outflow = outflow
        self._credentials = credentials
        self._desk = desk
        self._moved = moved
        self._tried: Authentication | None = None
        self._ended: tuple[int, str] | None = None
        self._accepted = False
        self._duplicate = False
        self._coordinator_id: str | None = None
        self._advert: Advert | None = None
        self._timer = Event()
        self._helpers: list[gevent.Greenlet] = []
        socket.on_control = self._control

    def run(self, offered: Advert) -> Ending:
        """Talk until the connection is over."""
        self.session.link.advertise(offered, time.monotonic())
        self._perform(self.session.start(time.monotonic()))
        tasks = (self._tick, partial(self.writer.write, self), self._prove)
        self._helpers = [gevent.spawn(task) for task in tasks]
        for helper in self._helpers:
            helper.link_exception(lambda _failed: self._socket.abort())
        try:
            code, reason = self._read()
            for helper in self._helpers:
                if helper.exception is not None:
                    raise helper.exception  # a bug of ours: it ends the process
        finally:
            gevent.killall(self._helpers)
            self._socket.abort()
            self.session.lost("", time.monotonic())
            self._outflow.disconnected()
            self._credentials.released(self._url)
        return Ending(code, reason, self._accepted, self._duplicate)

    def advertise(self, offered: Advert) -> None:
        self._advert = offered
        self._timer.set()

    def leave(self, instance_id: str, timeout_s: float) -> None:
        """``peer.leaving`` as the last message, then close 1000 with the handshake (5.4)."""
        gevent.killall(self._helpers)
        self._ended = (1000, "Client disconnect")
        with gevent.Timeout(timeout_s, False):
            self._perform(self.session.relay(leaving(instance_id)))
        self._socket.close(1000, "Client disconnect", timeout_s)

    def rejoin(self) -> None:
        """End it; its owner dials again."""
        self._close(Close(1000, "Joining anew"))

    # --- for the writer (writer.Way) ---------------------------------------------------

    @property
    def is_open(self) -> bool:
        return self.session.connected

    def send(self, plaintext: bytes) -> bool:
        return self._perform(self.session.relay(plaintext))

    def send_report(self, key: JobKey) -> bool:
        frame = self._desk.report(key)
        if frame is None:
            return True
        link = self.session.link
        link.reporting(key.run_id, key.job_id)
        if not self.send(frame):
            return False
        link.reported(key.run_id, key.job_id, time.monotonic())
        self._timer.set()
        return True

    def send_ping(self) -> bool:
        if not self._outflow.wants_ping():
            return True
        self._outflow.pinged()
        try:
            self._socket.ping()
        except Disconnected:
            return False
        return True

    # --- its greenlets ------------------------------------------------------------------

    def _read(self) -> tuple[int, str]:
        try:
            while self.session.state is not ConnectionState.DISCONNECTED:
                self._perform(self._heard(self._socket.receive()))
                self._timer.set()
        except Disconnected as error:
            return self._ended or (error.code, error.reason)
        return self._ended or (1006, "")

    def _heard(self, frame: bytes) -> Actions:
        """What the session makes of ``frame``. A bug there may cost this connection, which is
        dialled again after a pause, and never the jobs of all other coordinators."""
        try:
            return self.session.receive(frame, time.monotonic())
        except Exception:  # noqa: BLE001 (whatever a coordinator can provoke)
            log.critical("Message of a coordinator broke its session", exc_info=True)
            return [Close(1000, "Internal error")]

    def _tick(self) -> None:
        while self.session.state is not ConnectionState.DISCONNECTED:
            if self._advert is not None and self.session.connected:
                offered, self._advert = self._advert, None
                self._perform(self.session.advertise(offered, time.monotonic()))
            deadline = self.session.deadline
            left = None if deadline is None else deadline - time.monotonic()
            if left is None or left > 0:
                self._timer.wait(left)
                self._timer.clear()
            else:
                self._perform(self.session.tick(time.monotonic()))
                if self.session.connected:
                    self._moved(self.session.state)

    def _prove(self) -> None:
        """Ping behind what was sent, so that its arrival is known."""
        while True:
            gevent.sleep(PROVE_S)
            self._outflow.settle(time.monotonic())
            if self.session.connected and not self.send_ping():
                return

    def _control(self, opcode: Opcode) -> None:
        if opcode is Opcode.PONG:
            self._outflow.ponged(time.monotonic())

    # --- what the session wants ---------------------------------------------------------

    def _perform(self, actions: Actions) -> bool:
        """Do what the machine wants; False when the connection ended meanwhile."""
        try:
            for action in actions:
                self._perform_one(action)
        except Disconnected:
            return False
        return True

    def _perform_one(self, action: Action) -> None:
        match action:
            case Send():
                self._socket.send_text(action.text)
            case Note():
                note(action)
            case Tell():
                self._desk.tell(action.to, action.message)
            case Offered():
                self._desk.offered(self._url, action)
            case Receipted():
                self._desk.receipted(self._url, action)
            case Collect():
                self._desk.collect(self._url, action)
            case Replay():
                self._desk.replay(self._url, self._coordinator_id)
            case Choose():
                self._choose()
            case Joined():
                self._join(action)
            case Refused():
                self._refuse(action)
            case Close():
                self._close(action)

    def _choose(self) -> None:
        self._moved(ConnectionState.AUTHENTICATING)
        self._tried = self._credentials.choose(self._url)
        self._perform(self.session.authenticate(self._tried, time.monotonic()))

    def _join(self, joined: Joined) -> None:
        if joined.credential:
            self._credentials.joined(self._url, joined.credential, joined.role)
        self._credentials.released(self._url)
        self._accepted = True
        self._coordinator_id = joined.coordinator_id
        if not self._desk.joined(self._url, joined):
            self._duplicate = True
            self._close(Close(1000, "Duplicate coordinator"))
            raise Disconnected(1000, "Duplicate coordinator")
        self._outflow.connected = True
        self._outflow.counts_lines = joined.counts_lines
        self._outflow.ready.set()
        self._moved(ConnectionState.CONNECTED)

    def _refuse(self, refused: Refused) -> None:
        self._credentials.refused(refused.reason, self._tried)
        self._ended = (4001, refused.reason)
        try:
            with gevent.Timeout(_REFUSAL_CLOSE_S, False):
                while True:
                    self._socket.receive()
        except Disconnected as closed:
            if closed.code >= 4000:
                self._ended = (closed.code, refused.reason)
            raise

    def _close(self, close: Close) -> None:
        self._ended = self._ended or (close.code, close.reason)
        self._socket.close(close.code, close.reason, CLOSE_TIMEOUT_S)
