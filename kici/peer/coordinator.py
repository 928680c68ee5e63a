"""One coordinator URL: dial, talk, lose, dial again; for ever (peer spec 1.8, 5.1)."""

import logging
import os
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable

import gevent
import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from gevent.event import Event

from kici.contracts.link import JobKey
from kici.contracts.link.views import PeerState
from kici.contracts.states import CONNECTION_MOVES, ConnectionState, check_move
from kici.contracts.wire.peer import MAX_FRAME_BYTES
from kici.contracts.wire.peer.heartbeat import HostFacts
from kici.peer.connection import Connection
from kici.peer.credentials import Credentials
from kici.peer.endings import Endings
from kici.peer.outflow import Outflow
from kici.peer.publish import Publisher
from kici.peer.seam import Desk, Ending
from kici.protocol.backoff import Redial
from kici.protocol.heartbeat import Advert
from kici.protocol.peer_actions import HANDSHAKE_TIMEOUT_S, Joined, PeerSettings
from kici.protocol.peer_link import PeerLink
from kici.protocol.peer_session import PeerSession
from kici.protocol.settings_pull import SettingsPull
from kici.protocol.urls import peer_url, shown_url
from kici.shell.websocket_client import ConnectFailed, connect

log = logging.getLogger("kici.peer")

#: A second URL of a coordinator that is already connected is tried again this seldom (1.9).
DUPLICATE_RETRY_S = 60.0


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """What all coordinators of a worker have in common."""

    settings: PeerSettings
    credentials: Credentials
    pull: SettingsPull
    publisher: Publisher
    facts: Callable[[], HostFacts]
    max_delay_ms: float
    n_urls: int


class Coordinator:
    """Owns: the connection state of one configured URL. Told by: its connection, the desk."""

    def __init__(self, index: int, url: str, shared: Shared, desk: Desk, outflow: Outflow) -> None:
        self.url = url
        self.outflow = outflow
        self.coordinator_id: str | None = None
        self.state = ConnectionState.DISCONNECTED
        self.counters: Counter[str] = Counter()
        self._index = index
        self._shown = shown_url(url)
        self._shared = shared
        self._desk = desk
        self._redial = Redial(shared.max_delay_ms)
        self._endings = Endings(shared.settings.instance_id, shared.n_urls)
        self._advert = Advert()
        self._since = time.time()
        self._reason = ""
        self._version: str | None = None
        self._next_attempt_at: float | None = None
        self._connected_at: float | None = None
        self._connection: Connection | None = None
        self._leaving = False
        self._wake = Event()

    @property
    def connected(self) -> bool:
        return self.state is ConnectionState.CONNECTED

    def send(self, plaintext: bytes) -> None:
        """Send a small message now; nothing is kept for a link that is down (5.1)."""
        if self._connection is not None and self.connected:
            self._connection.writer.answer(plaintext)

    def report(self, key: JobKey) -> None:
        """Send a stored terminal report, after the job's logs; a replay follows a reconnect."""
        if self._connection is not None and self.connected:
            self._connection.writer.report(key)

    def advertise(self, offered: Advert) -> None:
        self._advert = offered
        if self._connection is not None:
            self._connection.advertise(offered)

    def send_piece(self, message_id: str, data: bytes, *, is_last: bool) -> bool:
        """The next chunk of a log bundle; returns when it is written, False when the
        collection or the connection is over."""
        if self._connection is None or not self.connected:
            return False
        piece = self._connection.session.link.collection.piece(message_id, data, is_last=is_last)
        return piece is not None and self._connection.writer.piece(piece)

    def fail_collection(self, message_id: str, reason: str) -> None:
        """Answer a collection with an error, unless it is over."""
        if self._connection is not None:
            failed = self._connection.session.link.collection.failed(message_id, reason)
            if failed is not None:
                self.send(failed)

    def joined(self, joined: Joined) -> None:
        """This connection was accepted."""
        self.coordinator_id, self._version = joined.coordinator_id, joined.coordinator_version
        self._redial.accepted()
        self._connected_at = time.time()

    def rejoin(self) -> None:
        """Close what is open and dial again."""
        if self._connection is not None:
            gevent.spawn(self._connection.rejoin)

    def leave(self, timeout_s: float) -> None:
        """Say goodbye and close; ``run`` ends."""
        self._leaving = True
        self._wake.set()
        if self._connection is not None:
            self._connection.leave(self._shared.settings.instance_id, timeout_s)

    def run(self) -> None:
        """The dial loop; ends only when this worker leaves."""
        while not self._leaving:
            self._move(ConnectionState.CONNECTING)
            ending = self._attempt()
            if self._leaving:
                self._move(ConnectionState.DISCONNECTED, "leaving")
                return
            if ending.duplicate:
                self._desk.part(self.url)
            self._wait_after(ending)
            while not self._leaving and self._desk.has_twin(self.url):
                self._wait(DUPLICATE_RETRY_S)

    def publish(self) -> None:
        self._shared.publisher.publish(f"peer {self._index}", self.view())

    def view(self) -> PeerState:
        """What can be shown of this connection."""
        counters = Counter(self.counters)
        if self._connection is not None:
            counters.update(self._connection.session.link.counters)
        return PeerState(
            rev=self._shared.publisher.next_rev(),
            url=self._shown,
            index=self._index,
            state=self.state,
            since=self._since,
            reason=self._reason,
            attempt=self._redial.attempt,
            next_attempt_at=self._next_attempt_at,
            coordinator_id=self.coordinator_id,
            coordinator_version=self._version,
            credential_issued_at=self._shared.credentials.issued_at(),
            last_connected_at=self._connected_at,
            counters=dict(counters),
        )

    def _attempt(self) -> Ending:
        """One connection, from the dial to its end."""
        self.counters["dials"] += 1
        try:
            socket = connect(
                peer_url(self.url), timeout_s=HANDSHAKE_TIMEOUT_S, max_size=MAX_FRAME_BYTES
            )
        except (ConnectFailed, ValueError) as error:
            return Ending(0, str(error))
        log.info("Connected to peer, waiting for ECDH handshake", extra={"url": self._shown})
        self._move(ConnectionState.HANDSHAKING)
        shared, session = self._shared, self._session()
        self._connection = Connection(
            self.url, socket, session, self.outflow, shared.credentials, self._desk, self._move
        )
        try:
            ending = self._connection.run(self._advert)
        finally:
            self.counters.update(session.link.counters)
            self._connection = None
            self._desk.uncollect(self.url)
        fields = {"url": self._shown, "code": ending.code, "reason": ending.reason}
        log.info("Peer connection closed", extra=fields)
        return ending

    def _session(self) -> PeerSession:
        settings = self._shared.settings
        link = PeerLink(
            self.url,
            settings,
            self._shared.pull,
            wall=lambda: int(time.time() * 1000),
            facts=self._shared.facts,
            new_id=lambda: str(uuid.uuid4()),
        )
        return PeerSession(settings, link, X25519PrivateKey.generate(), os.urandom)

    def _wait_after(self, ending: Ending) -> None:
        delay_s = self._redial.next_delay_ms(random.random(), ending.code, ending.reason) / 1000
        if ending.duplicate:
            delay_s = max(delay_s, DUPLICATE_RETRY_S)
        error = self._endings.explain(ending, self._shared.credentials.refusal)
        fields = {
            "url": self._shown,
            "attempt": self._redial.attempt,
            "delayMs": round(delay_s * 1000),
        }
        if not ending.accepted or self._endings.superseded:
            extra = {**fields, "error": error}
            log.warning("Connection to coordinator failed", extra=extra)
        log.info("Scheduling peer reconnect", extra=fields)
        self._next_attempt_at = time.time() + delay_s
        self._move(ConnectionState.DISCONNECTED, error)
        self._wait(delay_s)
        self._next_attempt_at = None

    def _wait(self, seconds: float) -> None:
        """``seconds``, or until we leave."""
        deadline = time.monotonic() + seconds
        while not self._leaving and (left := deadline - time.monotonic()) > 0:
            self._wake.wait(left)
            self._wake.clear()

    def _move(self, state: ConnectionState, reason: str = "") -> None:
        if state is not self.state:
            check_move(CONNECTION_MOVES, f"coordinator {self._shown}", self.state, state)
            self.state, self._since = state, time.time()
        self._reason = reason
        self.publish()
