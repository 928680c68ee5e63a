"""Collects the log bundles of workers (peer spec 4.18, 4.19; C55)."""

import uuid
from typing import BinaryIO

import gevent
import msgspec
from gevent.event import AsyncResult

from kici.contracts.wire import encode
from kici.contracts.wire.peer.fleet import (
    LogSelection,
    PeerLogsCollectChunk,
    PeerLogsCollectError,
    PeerLogsCollectRequest,
)
from kici.coordinator.registry import PeerLink, Registry
from kici.protocol.bundle_pieces import BundleFailed, BundlePieces
from kici.shell.unnamed_file import unnamed_file

#: A worker has 60 s (4.18).
WITHIN_S = 60.0
#: More than a worker of ours ever sends; a hostile one must not fill the disk.
MAX_BUNDLE_BYTES = 192 * 2**20
#: Bundles at once: each is a file and a waiting client.
MAX_AT_ONCE = 4
_MAX_REASON = 500


class NotCollected(Exception):
    """No bundle; the text says why, ``status`` is that of the HTTP answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Collection:
    """Owns: one bundle on its way, and its file."""

    def __init__(self, link: PeerLink, file: BinaryIO) -> None:
        self.link = link
        self.file = file
        self.pieces = BundlePieces(MAX_BUNDLE_BYTES)
        self.result: AsyncResult[int] = AsyncResult()

    def take(self, message: PeerLogsCollectChunk | PeerLogsCollectError) -> None:
        if self.result.ready():
            return
        try:
            if isinstance(message, PeerLogsCollectError):
                raise BundleFailed(f"the worker says: {message.message[:_MAX_REASON]}")
            self.file.write(self.pieces.take(message.seq, message.data_b64))
        except (BundleFailed, OSError) as error:
            self.result.set_exception(NotCollected(502, str(error)))
            return
        if message.is_last:
            self.result.set(self.pieces.n_bytes)


class LogBundles:
    """Owns: the collections that run. Told by: the API (wishes), peers (chunks, ends)."""

    def __init__(self, registry: Registry, directory: str) -> None:
        self._registry = registry
        self._directory = directory
        self._running: dict[str, _Collection] = {}

    def collect(self, peer_id: str, hours: float, agent_ids: tuple[str, ...] | None) -> BinaryIO:
        """The ZIP, to be read from the beginning and closed by the caller, who waits for at
        most ``WITHIN_S``. ``NotCollected``."""
        link = self._link(peer_id)
        if any(one.link is link for one in self._running.values()):
            raise NotCollected(409, f"the logs of {peer_id} are being collected already")
        if len(self._running) >= MAX_AT_ONCE:
            raise NotCollected(429, "too many bundles are being collected")
        try:
            file = unnamed_file(self._directory)
        except OSError as error:
            raise NotCollected(503, f"no room for a bundle: {error.strerror}") from None
        try:
            self._await(link, file, hours, agent_ids)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def heard(self, link: PeerLink, message: PeerLogsCollectChunk | PeerLogsCollectError) -> None:
        """What nobody asked this very connection for is thrown away."""
        running = self._running.get(message.message_id)
        if running is not None and running.link is link:
            running.take(message)

    def gone(self, link: PeerLink) -> None:
        """The connection is over: fail at once."""
        for running in self._running.values():
            if running.link is link and not running.result.ready():
                running.result.set_exception(NotCollected(502, "the worker disconnected"))

    def _link(self, peer_id: str) -> PeerLink:
        peer = self._registry.get(peer_id)
        if peer is None:
            raise NotCollected(404, f"no worker {peer_id} is known")
        link: PeerLink | None = peer.link
        if link is None:
            raise NotCollected(409, f"{peer_id} is not connected")
        return link

    def _await(
        self, link: PeerLink, file: BinaryIO, hours: float, agent_ids: tuple[str, ...] | None
    ) -> None:
        message_id = str(uuid.uuid4())
        selection = LogSelection(all=agent_ids is None, agent_ids=agent_ids or ())
        request = PeerLogsCollectRequest(
            message_id=message_id,
            log_window_hours=hours,
            include_coordinator_mesh=False,
            selection=msgspec.Raw(encode(selection)),
        )
        running = self._running[message_id] = _Collection(link, file)
        try:
            if not link.say(request):
                raise NotCollected(502, "the worker disconnected")
            running.result.get(timeout=WITHIN_S)
        except gevent.Timeout:
            raise NotCollected(504, f"no complete bundle within {WITHIN_S:.0f} s") from None
        finally:
            del self._running[message_id]
