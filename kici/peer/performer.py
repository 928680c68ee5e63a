"""Doing what the offers decide: on the disk in the disk's order, towards pool and coordinators."""

import contextlib
import logging
from collections.abc import Callable, Mapping
from functools import partial

import gevent
from gevent.event import Event

from kici.contracts.link import JobKey
from kici.contracts.link.jobs import JobStored
from kici.contracts.wire import encode
from kici.peer.coordinator import Coordinator
from kici.peer.disk import Disk
from kici.peer.notes import note
from kici.peer.outbox import Outbox
from kici.peer.relaying import Relaying
from kici.protocol.machine import Action, Actions, Forget, Note, Tell
from kici.protocol.offer_actions import Conclude, Promise, Reply, Report, Stored
from kici.protocol.offers import Offers
from kici.shell.child import ChildShell

log = logging.getLogger("kici.peer")

#: A confirmed record may stay this long, so that many deletions are one task.
FORGET_AFTER_S = 0.2


class Performer:
    """Owns: the disk's queue and the records that are confirmed and not yet deleted.
    ``changed()`` is called when the outbox holds something else than before."""

    def __init__(
        self,
        shell: ChildShell,
        outbox: Outbox,
        offers: Offers,
        relaying: Relaying,
        coordinators: Mapping[str, Coordinator],
        changed: Callable[[], None],
    ) -> None:
        self._shell = shell
        self._outbox = outbox
        self._offers = offers
        self._relaying = relaying
        self._coordinators = coordinators
        self._changed = changed
        self._confirmed: list[JobKey] = []
        self.refused = Event()  # the disk did not take a report
        self.disk = Disk()

    def perform(self, actions: Actions) -> None:
        """Do ``actions``; a list that needs the disk is done in the disk's order."""
        if any(isinstance(action, Promise | Conclude | Forget | Stored) for action in actions):
            for action in actions:
                if isinstance(action, Promise):
                    self._relaying.hold(action.key)
            self.disk.put(partial(self._perform_stored, actions))
            return
        for action in actions:
            self._perform_one(action)

    def _perform_stored(self, actions: Actions) -> None:
        for index, action in enumerate(actions):
            match action:
                case Promise():
                    if not self._promise(action.key, actions[index + 1 :]):
                        return
                case Conclude():
                    self._conclude(action)
                case Forget():
                    self._forget(action.key)
                case Stored():
                    self._stored(action.key)
                case _:
                    self._perform_one(action)
        for action in actions:
            if isinstance(action, Promise):
                self._relaying.promised(action.key)
        self._changed()

    def _perform_one(self, action: Action) -> None:
        match action:
            case Tell():
                self._shell.tell(action.to, action.message)
            case Reply():
                self._reply(action)
            case Report():
                self._coordinators[action.key.owner].report(action.key)
            case Note():
                note(action)

    def _reply(self, reply: Reply) -> None:
        coordinator = self._coordinators.get(reply.owner)
        if coordinator is None:
            return
        coordinator.counters["jobs_accepted" if reply.ack.accepted else "jobs_refused"] += 1
        coordinator.send(encode(reply.ack))

    def _promise(self, key: JobKey, then: Actions) -> bool:
        try:
            self._on_disk(self._outbox.open, key, self._coordinator_id(key))
        except OSError as error:
            ids = [action.ack.message_id for action in then if isinstance(action, Reply)]
            self._relaying.refused(key)
            self.perform(self._offers.not_promised(key, ids, str(error)))
            return False
        return True

    def _conclude(self, action: Conclude) -> None:
        key = action.key
        fields = {"runId": key.run_id, "jobId": key.job_id}
        try:
            self._on_disk(self._outbox.conclude, key, action.frame, self._coordinator_id(key))
        except OSError as error:
            # Sent anyway; the pool keeps its row until the disk takes the record.
            text = "Failed to persist terminal job status to outbox"
            log.error(text, extra={**fields, "error": str(error)})
            self.refused.set()
        else:
            log.info("Persisted terminal job status to durable outbox", extra=fields)
            self._shell.tell("pool", JobStored(key=key))
        self._report_now(key)

    def _forget(self, key: JobKey) -> None:
        """Confirmed records are deleted together with the next write, or a little later.

        One that the disk refused is only a promise there, which a new peer would believe: it
        goes at once, and only then the pool may let go.
        """
        if self._outbox.is_unwritten(key):
            with contextlib.suppress(OSError):
                self._on_disk(self._outbox.forget, key)
            self._stored(key)
            return
        if not self._confirmed:
            gevent.spawn_later(FORGET_AFTER_S, self.disk.put, self._forget_now)
        self._confirmed.append(key)

    def _stored(self, key: JobKey) -> None:
        """The pool's row may go; while it may not, the pool says the end again."""
        if not self._outbox.is_unwritten(key):
            self._shell.tell("pool", JobStored(key=key))

    def _forget_now(self) -> None:
        if self._confirmed:
            self._on_disk(_nothing)
            self._changed()

    def _on_disk(self, call: Callable[..., object], *args: object) -> None:
        """``call`` in the disk's thread, after the deletions that wait: one way to the thread
        and back for both, which costs more than the system calls."""
        keys, self._confirmed = self._confirmed, []
        self.disk.in_thread(self._forget_and, keys, call, args)

    def _forget_and(
        self, keys: list[JobKey], call: Callable[..., object], args: tuple[object, ...]
    ) -> None:
        for key in keys:
            try:
                self._outbox.forget(key)
            except OSError as error:
                # It stays, is sent again and confirmed again.
                log.error("Outbox record cannot be deleted", extra={"error": str(error)})
        call(*args)

    def _report_now(self, key: JobKey) -> None:
        coordinator = self._coordinators.get(key.owner)
        if coordinator is not None:
            coordinator.report(key)

    def _coordinator_id(self, key: JobKey) -> str | None:
        coordinator = self._coordinators.get(key.owner)
        return coordinator.coordinator_id if coordinator else None


def _nothing() -> None:
    """Only the deletions."""
