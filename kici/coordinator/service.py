"""Everything of a running coordinator, put together: who hears what."""

import logging
from time import monotonic

from kici import __version__
from kici.contracts.states import HeldState
from kici.contracts.wire.peer.fleet import (
    PeerCacheUploadRequest,
    PeerCacheUploadResponse,
    PeerLogsCollectChunk,
    PeerLogsCollectError,
)
from kici.contracts.wire.peer.heartbeat import HeartbeatReceived
from kici.contracts.wire.peer.jobs import JobProgress, JobRerouteAck, PeerLogChunk, ScalerEvent
from kici.coordinator.address import client_address
from kici.coordinator.dispatcher import Dispatcher
from kici.coordinator.jobs import JobRows
from kici.coordinator.log_bundles import LogBundles
from kici.coordinator.logs import Logs
from kici.coordinator.peer_server import PeerConnection, wall_ms
from kici.coordinator.registry import Registry
from kici.coordinator.settings import CoordinatorSettings, instance_id
from kici.coordinator.store import Store, StoreError
from kici.coordinator.tokens import Tokens
from kici.coordinator.vault import Vault
from kici.protocol.coordinator_actions import AcceptorSettings, Failed, Heard, Joined, Left
from kici.protocol.coordinator_limits import FailureLimit
from kici.protocol.inventory import read_inventory
from kici.protocol.machine import Action
from kici.shell.upgrade import Upgrade
from kici.shell.websocket import Connection

_log = logging.getLogger("kici.coordinator")
#: Connections at once, authenticated or not.
MAX_CONNECTIONS = 10_000
SWEEP_EVERY_S = 60.0
#: Between two ticks: then this process was stopped, or the machine slept.
ABSENT_S = 5.0


class Service:
    """Owns: the parts of one coordinator and its open peer connections."""

    def __init__(self, settings: CoordinatorSettings) -> None:
        """``ConfigError`` when the data directory cannot be used."""
        self.settings = settings
        self.store = Store(settings.data_dir, wall_ms)
        self.instance_id = instance_id(settings)
        self.started_at = monotonic()
        self.tokens = Tokens(self.store)
        self.registry = Registry()
        self.rows = JobRows(self.store)
        self.logs = Logs(self.store)
        self.dispatcher = Dispatcher(
            self.registry, self.rows, self.logs, Vault(settings.data_dir), self.instance_id
        )
        self._acceptor = AcceptorSettings(
            instance_id=self.instance_id,
            software_version=__version__,
            min_protocol_version=settings.min_protocol_version,
        )
        self.bundles = LogBundles(self.registry, settings.data_dir)
        self._limit = FailureLimit()
        self._open: set[PeerConnection] = set()
        self._sweep_at = 0.0
        self._ticked_at = monotonic()
        self._prune_at = monotonic() + SWEEP_EVERY_S
        self.dispatcher.recover(monotonic())

    def serve_peer(self, socket: Connection, upgrade: Upgrade) -> None:
        """One connection on ``/ws/peer``, in its greenlet, until it is over."""
        address = client_address(upgrade.remote, upgrade.headers, self.settings.trusted_proxies)
        if self._limit.blocked(address, monotonic()):
            socket.close(4001, "Rate limited")
            return
        if len(self._open) >= MAX_CONNECTIONS or self.dispatcher.draining:
            socket.close(1013, "Try again later")
            return
        connection = PeerConnection(socket, address, self._acceptor, self.tokens, self._hear)
        self._open.add(connection)
        try:
            connection.serve()
        finally:
            self._open.discard(connection)
            self._gone(connection)

    def tick(self) -> None:
        """About once a second: every deadline, and what ``kici-admin`` did to our file."""
        now = monotonic()
        absent_s = now - self._ticked_at
        if absent_s >= ABSENT_S:
            self._absent(absent_s, now)
        for connection in list(self._open):
            connection.tick(now)
        self.dispatcher.tick(now)
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_EVERY_S
            self._limit.sweep(now)
            self.registry.sweep(now)
        try:
            self._look_at_store(now)
        except StoreError as error:
            _log.error("Database refused", extra={"error": str(error)})
        # Now, not before: a slow disk makes ticks long, and deadlines hold all the same.
        self._ticked_at = monotonic()

    def _absent(self, seconds: float, now: float) -> None:
        """We were stopped: what came meanwhile is still to be read, and was no silence."""
        _log.warning("Coordinator was stopped", extra={"seconds": round(seconds, 1)})
        for connection in self._open:
            connection.session.life.frame(now)
        for job in self.dispatcher.placement.jobs.values():
            job.postpone(seconds)

    def _look_at_store(self, now: float) -> None:
        if self.store.changed_elsewhere():
            self.enforce_revocations()
        if now >= self._prune_at:
            self._prune_at = now + SWEEP_EVERY_S
            self.rows.prune()
            self.tokens.prune()

    def enforce_revocations(self) -> None:
        """Close the links of instances whose credential was revoked (C19)."""
        linked = {peer.instance_id: peer.link for peer in self.registry.connected()}
        for revoked in set(linked) - self.tokens.admitted(list(linked)):
            _log.warning("Peer revoked", extra={"peerId": revoked})
            linked[revoked].end(4001, "Credential revoked")

    def leave(self) -> None:
        """C57: draining is told, then goodbye, then 1001."""
        self.dispatcher.draining = True
        for connection in list(self._open):
            connection.announce(draining=True)
            connection.end(1001, "Server shutting down", leaving=True)

    @property
    def n_open(self) -> int:
        return len(self._open)

    # --- what connections say --------------------------------------------------------

    def _hear(self, connection: PeerConnection, action: Action) -> None:
        now = monotonic()
        try:
            if isinstance(action, Failed):
                self._limit.failed(connection.address, now)
            elif isinstance(action, Joined):
                self._joined(connection, action, now)
            elif isinstance(action, Left):
                self._gone(connection)
            elif isinstance(action, Heard) and self._is_current(connection):
                self._message(connection, action.message, now)
        except StoreError as error:  # the time-outs and replays of both ends cover it
            _log.error("Database refused", extra={"error": str(error)})

    def _is_current(self, connection: PeerConnection) -> bool:
        """Whether it is the connection that counts for its instance (C18)."""
        peer = self.registry.get(connection.session.instance_id)
        return peer is not None and peer.link is connection

    def _joined(self, connection: PeerConnection, joined: Joined, now: float) -> None:
        name = joined.instance_id
        older = self.registry.joined(name, connection, joined.software_version, now)
        if older is not None:
            older.end(4001, "Superseded")
        fields = {"peerId": name, "role": joined.role, "address": connection.address}
        _log.info("Peer connected", extra={**fields, "version": joined.software_version})
        self._warn_of_expiry(name)
        self.dispatcher.joined(name, now)

    def _warn_of_expiry(self, name: str) -> None:
        """C21: the link has no renewal, so say it two weeks ahead."""
        days = self.tokens.days_left(name)
        if days is not None:
            extra = {"peerId": name, "daysLeft": days}
            _log.warning("Peer credential expires soon", extra=extra)

    def _gone(self, connection: PeerConnection) -> None:
        self.bundles.gone(connection)
        name = connection.session.instance_id
        now = monotonic()
        if self.registry.left(name, connection, now):
            _log.info("Peer disconnected", extra={"peerId": name})
            self.dispatcher.left(name, now)

    def _message(self, connection: PeerConnection, message: object, now: float) -> None:
        name = connection.session.instance_id
        reports = self.dispatcher.reports
        if isinstance(message, PeerLogChunk):
            reports.log(name, message, now)
        elif isinstance(message, JobProgress):
            reports.progress(name, message, now)
        elif isinstance(message, HeartbeatReceived):
            self._heartbeat(name, message, now)
        elif isinstance(message, JobRerouteAck):
            reports.ack(name, message, now)
        elif isinstance(message, ScalerEvent):
            reports.scaler_event(name, message, now)
        elif isinstance(message, PeerLogsCollectChunk | PeerLogsCollectError):
            self.bundles.heard(connection, message)
        elif isinstance(message, PeerCacheUploadRequest):
            # There is no object store here (5.9, C54).
            connection.say(
                PeerCacheUploadResponse(
                    message_id=message.message_id,
                    run_id=message.run_id,
                    job_id=message.job_id,
                    upload_url="",
                )
            )

    def _heartbeat(self, name: str, beat: HeartbeatReceived, now: float) -> None:
        inventory = read_inventory(beat)
        if inventory.rejected:
            fields = {"peerId": name, "entries": inventory.rejected}
            _log.warning("Malformed capacity entries", extra=fields)
        self.registry.heartbeat(name, inventory, beat.draining, beat.hostname, now)
        peer = self.registry.get(name)
        if peer is not None and not self.dispatcher.draining:
            self.dispatcher.placement.offer_to(peer, now)

    # --- what can be shown -----------------------------------------------------------

    def cluster_health(self) -> dict[str, object]:
        """``GET /cluster/health`` (worker surface 9.2)."""
        known, connected = self.registry.known(), self.registry.connected()
        return {
            "status": "healthy" if len(known) == len(connected) else "degraded",
            "instanceId": self.instance_id,
            "role": "leader",
            "term": 0,
            "leaderId": self.instance_id,
            "peerCount": len(known),
            "connectedPeers": len(connected),
            "agentCount": 0,
            "activeRuns": len({job.run_id for job in self.dispatcher.placement.jobs.values()}),
        }

    def waiting_reason(self, job_id: str) -> str | None:
        """Why a queued job waits."""
        job = self.dispatcher.placement.jobs.get(job_id)
        return job.why if job is not None and job.state is HeldState.QUEUED else None

    def flush(self) -> None:
        """Make what is written durable; said, not raised: the next flush tries again."""
        try:
            self.store.commit()
        except StoreError as error:
            _log.error("Database refused a commit", extra={"error": str(error)})
