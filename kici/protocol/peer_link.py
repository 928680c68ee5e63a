"""The authenticated part of a worker's link, as a pure machine (peer spec 4, 5.1)."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from kici.contracts.link.jobs import JobCancel, TokenRevoked
from kici.contracts.wire import Wire, encode
from kici.contracts.wire.peer import ToWorker
from kici.contracts.wire.peer.fleet import (
    PeerAgentTokenRevoke,
    PeerClusterSettingsRequest,
    PeerClusterSettingsResponse,
    PeerConfigReload,
    PeerConfigReloadResponse,
    PeerLeaving,
    PeerLogsCollectRequest,
)
from kici.contracts.wire.peer.heartbeat import HeartbeatReceived, HostFacts
from kici.contracts.wire.peer.jobs import JobProgressAck, JobReroute, JobRerouteAck, PeerJobCancel
from kici.protocol.heartbeat import GATES_PER_SET, Advert, at_least, heartbeat
from kici.protocol.log_collection import LogCollection
from kici.protocol.machine import Action, Actions, Close, Note, Tell
from kici.protocol.peer_actions import (
    CHANGE_DELAY_S,
    DEAD_AFTER_S,
    UNRECEIPTED_AFTER_S,
    Offered,
    PeerSettings,
    Receipted,
    Replay,
)
from kici.protocol.settings_pull import SettingsPull
from kici.protocol.surrogates import mended
from kici.protocol.urls import shown_url


class _Tag(msgspec.Struct, frozen=True):
    type: str


_messages: msgspec.json.Decoder[ToWorker] = msgspec.json.Decoder(ToWorker)
_tags: msgspec.json.Decoder[_Tag] = msgspec.json.Decoder(_Tag)
#: Characters of an id, which is repeated in everything that is said about its job.
MAX_ID = 512
#: Lines about invalid messages in one connection's life.
MAX_COMPLAINTS = 20
RELOAD_REFUSED = "Configuration reload is not supported by this worker"


class PlainSend(Action, frozen=True):
    """One message to be sealed and sent by the session."""

    message: Wire


class PeerLink:
    """Owns: timers, counters and unreceipted reports of one accepted connection.

    ``owner`` is the configured URL. ``wall()`` gives epoch milliseconds, ``facts()`` the
    host's diagnostics, ``new_id()`` a message id. ``pull`` is shared with the other links.
    """

    def __init__(
        self,
        owner: str,
        settings: PeerSettings,
        pull: SettingsPull,
        *,
        wall: Callable[[], int],
        facts: Callable[[], HostFacts],
        new_id: Callable[[], str],
    ) -> None:
        self._owner = owner
        self._settings = settings
        self._pull = pull
        self._wall = wall
        self._facts = facts
        self._new_id = new_id
        self._version: str | None = None
        self._advert = Advert()
        self._advertised: Advert | None = None
        self._heartbeat_at = 0.0
        self._replay_at = 0.0
        self._heard_at = 0.0
        self._unreceipted: dict[tuple[str, str], float] = {}
        self.collection = LogCollection()
        self.counters: Counter[str] = Counter()
        self._n_complaints = 0

    @property
    def deadline(self) -> float:
        moments = [self._heartbeat_at, self._replay_at, self._heard_at + DEAD_AFTER_S]
        if self._unreceipted:
            moments.append(min(self._unreceipted.values()) + UNRECEIPTED_AFTER_S)
        return min(*moments, self.collection.deadline)

    def joined(self, version: str | None, now: float) -> Actions:
        """Accepted: a heartbeat at once, then what the outbox holds (3.1)."""
        self._version = version
        self._heard_at = now
        self._replay_at = now + self._settings.replay_interval_s
        return [*self._heartbeat(now), Replay()]

    def advertise(self, offered: Advert, now: float) -> Actions:
        """The inventory changed; ``draining`` goes out at once, the rest within 100 ms."""
        urgent = offered.draining != self._advert.draining
        self._advert = offered
        if self._advertised is None or offered == self._advertised:
            return []
        if urgent:
            return self._heartbeat(now)
        self._heartbeat_at = min(self._heartbeat_at, now + CHANGE_DELAY_S)
        return []

    def reporting(self, run_id: str, job_id: str) -> None:
        """A terminal report is being written, which takes minutes on a slow line."""
        self._unreceipted.setdefault((run_id, job_id), math.inf)

    def reported(self, run_id: str, job_id: str, now: float) -> None:
        """It went out; from here on its receipt is due, unless that was quicker."""
        if self._unreceipted.get((run_id, job_id)) == math.inf:
            self._unreceipted[run_id, job_id] = now

    def heard(self, now: float) -> None:
        """Any frame is a sign of life."""
        self._heard_at = now

    def tick(self, now: float) -> Actions:
        if now >= self._heard_at + DEAD_AFTER_S:
            return [Close(1000, "No frame for 90 s")]
        if any(now >= since + UNRECEIPTED_AFTER_S for since in self._unreceipted.values()):
            return [Close(1000, "Terminal report not acknowledged")]
        late = self.collection.tick(now)
        actions: Actions = [] if late is None else [PlainSend(late)]
        if now >= self._heartbeat_at:
            actions += self._heartbeat(now)
        if now >= self._replay_at:
            self._replay_at = now + self._settings.replay_interval_s
            actions.append(Replay())
        return actions

    def receive(self, plain: bytes, now: float) -> Actions:
        """One decrypted message; what is unknown or invalid is dropped and counted (4.22)."""
        plain = mended(plain)
        try:
            message = _messages.decode(plain)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self.counters["invalid_messages"] += 1
            return self._complain(plain, error)
        handler = _HANDLERS[type(message)]
        return handler(self, message, plain, now)

    def _complain(self, plain: bytes, error: Exception) -> Actions:
        """A line when the type is ours: a job may wait in it. Other types are no mistake."""
        try:
            kind = _tags.decode(plain).type
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return []
        self._n_complaints += kind in _KNOWN
        if kind not in _KNOWN or self._n_complaints > MAX_COMPLAINTS:
            return []
        # Never a value.
        fields = {"type": kind, "error": str(error), "url": shown_url(self._owner)}
        return [Note("warn", "Invalid message from coordinator dropped", fields)]

    def _heartbeat(self, now: float) -> Actions:
        self._heartbeat_at = now + self._settings.heartbeat_interval_s
        self._advertised = self._advert
        self.counters["heartbeats_sent"] += 1
        return [
            PlainSend(
                heartbeat(
                    instance_id=self._settings.instance_id,
                    version=self._settings.software_version,
                    coordinator_version=self._version,
                    offered=self._advert,
                    facts=self._facts(),
                    settings_version=self._pull.version,
                    timestamp_ms=self._wall(),
                )
            )
        ]

    def _on_heartbeat(self, message: HeartbeatReceived, plain: bytes, now: float) -> Actions:
        offered = message.cluster_settings_version or 0
        if not at_least(self._version, GATES_PER_SET) or not self._pull.wanted(offered, now):
            return []
        message_id = self._new_id()
        self._pull.asked(message_id, now)
        return [PlainSend(PeerClusterSettingsRequest(message_id=message_id))]

    def _on_settings(
        self, message: PeerClusterSettingsResponse, plain: bytes, now: float
    ) -> Actions:
        return self._pull.answered(message)

    def _on_reroute(self, message: JobReroute, plain: bytes, now: float) -> Actions:
        self.counters["jobs_offered"] += 1
        if self._settings.instance_id in message.tried_connections:
            return self._decline(message, "Loop detected")
        if len(message.tried_connections) >= message.max_hops:
            return self._decline(message, "Max hops exceeded")
        ids = {"messageId": message.message_id, "runId": message.run_id, "jobId": message.job_id}
        for name, value in ids.items():
            if not 0 < len(value) <= MAX_ID:
                why = f"{name} is longer than {MAX_ID} characters" if value else f"{name} is empty"
                return self._decline(message, f"Invalid job.reroute: {why}")
        return [Offered(message.run_id, message.job_id, message.message_id, plain)]

    def _decline(self, message: JobReroute, reason: str) -> Actions:
        ids = {"runId": message.run_id[:MAX_ID], "jobId": message.job_id[:MAX_ID]}
        fields = {**ids, "reason": reason}
        answer = JobRerouteAck(message_id=message.message_id, accepted=False, reason=reason)
        return [Note("info", "Refused rerouted job", fields), PlainSend(answer)]

    def _on_receipt(self, message: JobProgressAck, plain: bytes, now: float) -> Actions:
        self._unreceipted.pop((message.run_id, message.job_id), None)
        return [Receipted(message.run_id, message.job_id)]

    def _on_cancel(self, message: PeerJobCancel, plain: bytes, now: float) -> Actions:
        cancel = JobCancel(
            owner=self._owner,
            run_id=message.run_id,
            job_id=message.job_id,
            reason=message.reason,
            force=bool(message.force),
        )
        return [Tell("pool", cancel)]

    def _on_leaving(self, message: PeerLeaving, plain: bytes, now: float) -> Actions:
        return [Note("info", "Coordinator is leaving", {"coordinatorId": message.instance_id})]

    def _on_revoke(self, message: PeerAgentTokenRevoke, plain: bytes, now: float) -> Actions:
        return [Tell("pool", TokenRevoked(token_id=message.token_id))] if message.token_id else []

    def _on_reload(self, message: PeerConfigReload, plain: bytes, now: float) -> Actions:
        answer = PeerConfigReloadResponse(
            message_id=message.message_id, success=False, errors=(RELOAD_REFUSED,)
        )
        return [PlainSend(answer)]

    def _on_collect(self, message: PeerLogsCollectRequest, plain: bytes, now: float) -> Actions:
        answer = self.collection.asked(message, now)
        return [PlainSend(answer) if isinstance(answer, Wire) else answer] if answer else []


_HANDLERS: dict[type[msgspec.Struct], Callable[[PeerLink, Any, bytes, float], Actions]] = {
    HeartbeatReceived: PeerLink._on_heartbeat,
    PeerClusterSettingsResponse: PeerLink._on_settings,
    JobReroute: PeerLink._on_reroute,
    JobProgressAck: PeerLink._on_receipt,
    PeerJobCancel: PeerLink._on_cancel,
    PeerLeaving: PeerLink._on_leaving,
    PeerAgentTokenRevoke: PeerLink._on_revoke,
    PeerConfigReload: PeerLink._on_reload,
    PeerLogsCollectRequest: PeerLink._on_collect,
}

_KNOWN = frozenset(str(one.__struct_config__.tag) for one in _HANDLERS)


def leaving(instance_id: str) -> bytes:
    """``peer.leaving``, the last message before our close (4.14, P71)."""
    return encode(PeerLeaving(instance_id=instance_id, term=0))
