"""Answers a coordinator's wish for logs: gathers, zips, sends (peer spec 4.18, 4.19).

One collection a coordinator, in a greenlet of its own; the ZIP is written in a thread, into
files without a name. ``protocol/log_collection.py`` says what may be sent and when it is over.
"""

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO

import gevent
from gevent.event import Event

from kici.contracts.link.logs import AgentLogs, LogsCancel, LogsGathered, LogsRequest
from kici.peer.coordinator import Coordinator
from kici.protocol.bundle_pieces import PIECE_BYTES, BundleFailed
from kici.protocol.log_collection import AGENTS_WITHIN_S, Collect
from kici.shell.child import ChildShell
from kici.shell.unnamed_file import adopt, drop

if TYPE_CHECKING:
    from kici.peer.bundle import Worker

log = logging.getLogger("kici.peer")

#: The pool's last word may come this much after its time.
_GRACE_S = 2.0
POOL_GONE = "the pool process started anew meanwhile"
POOL_SILENT = "the pool process did not answer in time"


class Gathered:
    """Owns: what the pool gave for one collection, descriptors included."""

    def __init__(self) -> None:
        self.request_id = str(uuid.uuid4())
        self.rows: list[AgentLogs] = []
        self.files: dict[str, BinaryIO] = {}
        self.reason = ""
        self.stopped = False
        self.done = Event()

    def add(self, row: AgentLogs, fds: Sequence[int]) -> None:
        self.rows.append(row)
        for fd in fds:
            self.files[row.agent_id] = adopt(fd)

    def end(self, reason: str) -> None:
        self.reason = self.reason or reason
        self.done.set()

    def close(self) -> None:
        self.stopped = True
        for file in self.files.values():
            file.close()


class Collections:
    """Owns: the collections that run, one a coordinator. Told by: connections, the pool.

    ``describe()`` gives what the bundle says of this worker.
    """

    def __init__(
        self,
        shell: ChildShell,
        coordinators: Mapping[str, Coordinator],
        describe: Callable[[], "Worker"],
    ) -> None:
        self._shell = shell
        self._coordinators = coordinators
        self._describe = describe
        self._greenlets: dict[str, gevent.Greenlet] = {}
        self._gathered: dict[str, Gathered] = {}

    def start(self, url: str, wanted: Collect) -> None:
        """Returns at once; the session has made sure that no other one runs."""
        self.lost(url)
        self._greenlets[url] = gevent.spawn(self._run, self._coordinators[url], wanted)

    def lost(self, url: str) -> None:
        """The connection is over: nobody wants the bundle any more."""
        greenlet = self._greenlets.pop(url, None)
        if greenlet is not None:
            greenlet.kill(block=False)

    def heard(self, message: AgentLogs | LogsGathered, fds: Sequence[int]) -> None:
        gathered = self._gathered.get(message.request_id)
        if gathered is None or gathered.done.is_set():
            drop(fds)
        elif isinstance(message, AgentLogs):
            gathered.add(message, fds)
        else:
            gathered.end(message.reason)

    def pool_started(self) -> None:
        for gathered in self._gathered.values():
            gathered.end(POOL_GONE)

    def _run(self, coordinator: Coordinator, wanted: Collect) -> None:
        fields = {"messageId": wanted.message_id, "hours": wanted.hours}
        log.info("Collecting logs for the coordinator", extra=fields)
        gathered = Gathered()
        self._gathered[gathered.request_id] = gathered
        try:
            self._gather(gathered, wanted)
            with self._write(gathered, wanted) as bundle:
                n_bytes = _send(coordinator, wanted.message_id, bundle)
            log.info("Sent log bundle", extra={**fields, "bytes": n_bytes})
        except (OSError, ValueError, BundleFailed) as error:
            log.warning("No log bundle could be made", extra={**fields, "error": str(error)})
            coordinator.fail_collection(wanted.message_id, f"No bundle could be made: {error}")
        finally:
            del self._gathered[gathered.request_id]
            gathered.close()

    def _gather(self, gathered: Gathered, wanted: Collect) -> None:
        request = LogsRequest(
            request_id=gathered.request_id,
            hours=wanted.hours,
            agent_ids=wanted.agent_ids,
            within_s=AGENTS_WITHIN_S,
        )
        try:
            self._shell.tell("pool", request)
            if not gathered.done.wait(AGENTS_WITHIN_S + _GRACE_S):
                gathered.end(POOL_SILENT)
        finally:
            if not gathered.done.is_set():
                self._shell.tell("pool", LogsCancel(request_id=gathered.request_id))

    def _write(self, gathered: Gathered, wanted: Collect) -> BinaryIO:
        from kici.peer.bundle import write_bundle  # rarely wanted, so not in every start

        result, error = gevent.get_hub().threadpool.apply(
            write_bundle,
            (self._describe(), wanted.hours, gathered.rows, gathered.files, gathered.reason),
            {"stopped": lambda: gathered.stopped},
        )
        if result is None:
            raise error or BundleFailed("stopped")
        return result


def _send(coordinator: Coordinator, message_id: str, bundle: BinaryIO) -> int:
    """Piece by piece, each when the one before is written; the size in bytes."""
    n_bytes = 0
    piece = bundle.read(PIECE_BYTES)
    while True:
        following = bundle.read(PIECE_BYTES)
        if not coordinator.send_piece(message_id, piece, is_last=not following):
            raise BundleFailed("it is not wanted any more, or took too long")
        n_bytes += len(piece)
        if not following:
            return n_bytes
        piece = following
