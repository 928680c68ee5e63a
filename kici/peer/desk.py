"""Jobs between the pool, the outbox and the coordinators: the peer's middle."""

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial

import gevent
from gevent.event import Event

from kici.contracts.link import JobKey, Message
from kici.contracts.link.jobs import (
    JobAccepted,
    JobDeclined,
    JobDispatched,
    JobFinished,
    JobLogged,
    JobProgressed,
    JobStored,
    OutboxState,
    ScalerReported,
)
from kici.contracts.wire import encode
from kici.peer.collection import Collections
from kici.peer.coordinator import Coordinator
from kici.peer.disk import Disk
from kici.peer.notes import note
from kici.peer.outbox import Outbox
from kici.peer.publish import Publisher
from kici.peer.relaying import Relaying
from kici.peer.spool import Spool
from kici.protocol.log_collection import Collect
from kici.protocol.machine import Action, Actions, Forget, Note, Tell
from kici.protocol.offers import Conclude, Offers, Promise, Reply, Report, Stored
from kici.protocol.peer_actions import Joined, Offered, Receipted
from kici.shell.child import ChildShell

log = logging.getLogger("kici.peer")

#: A confirmed record may stay this long, so that many deletions are one task.
FORGET_AFTER_S = 0.2
#: Records of URLs that are configured no more go to any coordinator after this long (5.3).
ORPHAN_AFTER_S = 600.0


class PeerDesk:
    """Owns: what is done with offers, reports and frames. Told by: pool and coordinators."""

    def __init__(
        self, shell: ChildShell, outbox: Outbox, spool: Spool, offers: Offers, publisher: Publisher
    ) -> None:
        self._shell = shell
        self._outbox = outbox
        self._spool = spool
        self._offers = offers
        self._publisher = publisher
        self._started_at = time.monotonic()
        self.relaying = Relaying(shell, offers)
        self._confirmed: list[JobKey] = []
        self.changed = Event()  # offers may have a new deadline
        self.refused = Event()  # the disk did not take a report
        self.disk = Disk()
        self.coordinators: Mapping[str, Coordinator] = {}
        self.collections: Collections | None = None

    def serve(self, coordinators: Mapping[str, Coordinator]) -> None:
        """They are made with the desk at hand, so they come second."""
        self.coordinators = self.relaying.coordinators = coordinators

    # --- from coordinators (peer/seam.py) ------------------------------------------------

    def tell(self, to: str, message: Message) -> None:
        self._shell.tell(to, message)

    def offered(self, url: str, offer: Offered) -> None:
        key = JobKey(owner=url, run_id=offer.run_id, job_id=offer.job_id)
        now = time.monotonic()
        self.perform(self._offers.offered(key, offer.message_id, offer.reroute, now))
        self.changed.set()

    def receipted(self, url: str, receipt: Receipted) -> None:
        key = self._outbox.confirmed_key(url, receipt.run_id, receipt.job_id)
        self.coordinators[url].outflow.ended(key)
        self.perform(self._offers.receipted(key))

    def collect(self, url: str, wanted: Collect) -> None:
        if self.collections is not None:
            self.collections.start(url, wanted)

    def uncollect(self, url: str) -> None:
        if self.collections is not None:
            self.collections.lost(url)

    def joined(self, url: str, joined: Joined) -> bool:
        for other in self.coordinators.values():
            same = joined.coordinator_id and other.coordinator_id == joined.coordinator_id
            if other.url != url and other.connected and same:
                fields = {"url": url, "first": other.url, "coordinatorId": joined.coordinator_id}
                log.warning("Two URLs lead to one coordinator; the second is dropped", extra=fields)
                return False
        self.coordinators[url].joined(joined)
        return True

    def replay(self, url: str, coordinator_id: str | None) -> None:
        """Every concluded record of ``url`` is sent (again), after the job's logs (P54, P55)."""
        late = time.monotonic() - self._started_at >= ORPHAN_AFTER_S
        self._outbox.adopt_orphans(url, coordinator_id, any_cluster=late)
        keys = self._outbox.concluded(url)
        if keys:
            ids = [key.job_id for key in keys[:20]]
            fields = {"url": url, "count": len(keys), "jobIds": ids}
            log.info("Replaying buffered terminal job statuses to coordinator", extra=fields)
        for key in keys:
            self.coordinators[url].report(key)

    def report(self, key: JobKey) -> bytes | None:
        return self._outbox.message(key)

    # --- from the pool -------------------------------------------------------------------

    def pool_said(self, message: Message) -> None:
        match message:
            case JobAccepted():
                self.perform(self._offers.accepted(message.key))
            case JobDeclined():
                self.perform(self._offers.declined(message.key, message.reason))
            case JobDispatched():
                self._offers.dispatched(message.key)
            case JobProgressed() | ScalerReported():
                self.relaying.relay(message.key, message.frame)
            case JobLogged():
                self.relaying.relay(message.key, message.frame, message.n_lines, len(message.frame))
            case JobFinished():
                self.perform(self._offers.finished(message.key, message.frame))

    def pool_started(self) -> None:
        """A new pool: it has no log credit and knows nothing that no agent tells it."""
        self.relaying.grant()
        self.perform(self._offers.pool_restarted())
        self.say_outbox_again()

    def say_outbox_again(self) -> None:
        """To the pool, too, after what the disk has still to do: a job whose end is on its
        way there must not look open."""
        self.disk.put(partial(self.say_outbox, to_pool=True))

    def say_outbox(self, *, to_pool: bool) -> None:
        self._publisher.publish_later("outbox", self._outbox_state)
        if to_pool:
            self._shell.tell("pool", self._outbox_state())

    def _outbox_state(self) -> OutboxState:
        return self._outbox.state(self._publisher.next_rev())

    def say_spool(self) -> None:
        self._publisher.publish("spool", self._spool.state(self._publisher.next_rev()))

    # --- actions -------------------------------------------------------------------------

    def perform(self, actions: Actions) -> None:
        """Do ``actions``; a list that needs the disk is done in the disk's order."""
        if any(isinstance(action, Promise | Conclude | Forget | Stored) for action in actions):
            for action in actions:
                if isinstance(action, Promise):
                    self.relaying.hold(action.key)
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
                self.relaying.promised(action.key)
        self.say_outbox(to_pool=False)

    def _perform_one(self, action: Action) -> None:
        match action:
            case Tell():
                self._shell.tell(action.to, action.message)
            case Reply():
                self._reply(action)
            case Report():
                self.coordinators[action.key.owner].report(action.key)
            case Note():
                note(action)

    def _reply(self, reply: Reply) -> None:
        coordinator = self.coordinators.get(reply.owner)
        if coordinator is None:
            return
        coordinator.counters["jobs_accepted" if reply.ack.accepted else "jobs_refused"] += 1
        coordinator.send(encode(reply.ack))

    def _promise(self, key: JobKey, then: Actions) -> bool:
        try:
            self._on_disk(self._outbox.open, key, self._coordinator_id(key))
        except OSError as error:
            ids = [action.ack.message_id for action in then if isinstance(action, Reply)]
            self.relaying.refused(key)
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
            self.say_outbox(to_pool=False)

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
        coordinator = self.coordinators.get(key.owner)
        if coordinator is not None:
            coordinator.report(key)

    def _coordinator_id(self, key: JobKey) -> str | None:
        coordinator = self.coordinators.get(key.owner)
        return coordinator.coordinator_id if coordinator else None


def _nothing() -> None:
    """Only the deletions."""
