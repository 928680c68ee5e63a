"""Jobs between the pool, the outbox and the coordinators: the peer's middle."""

import logging
import time
from collections.abc import Mapping
from functools import partial

import msgspec
from gevent.event import Event

from kici.contracts.link import JobKey, Message
from kici.contracts.link.jobs import (
    JobAccepted,
    JobCancel,
    JobDeclined,
    JobDispatched,
    JobFinished,
    JobLogged,
    JobProgressed,
    OutboxState,
    ScalerReported,
)
from kici.peer.collection import Collections
from kici.peer.coordinator import Coordinator
from kici.peer.outbox import Outbox
from kici.peer.performer import Performer
from kici.peer.publish import Publisher
from kici.peer.relaying import Relaying
from kici.peer.spool import Spool
from kici.protocol.log_collection import Collect
from kici.protocol.offers import Offers
from kici.protocol.peer_actions import Joined, Offered, Receipted
from kici.protocol.urls import shown_url
from kici.shell.child import ChildShell

log = logging.getLogger("kici.peer")

#: Records of URLs that are configured no more go to any coordinator after this long (5.3).
ORPHAN_AFTER_S = 600.0


class PeerDesk:
    """Owns: what is done with offers, reports and frames. Told by: pool and coordinators."""

    def __init__(
        self,
        shell: ChildShell,
        outbox: Outbox,
        spool: Spool,
        offers: Offers,
        publisher: Publisher,
        coordinators: Mapping[str, Coordinator],
        collections: Collections,
    ) -> None:
        """``coordinators`` is filled later: they are made with the desk at hand."""
        self._shell = shell
        self._outbox = outbox
        self._spool = spool
        self._offers = offers
        self._publisher = publisher
        self._started_at = time.monotonic()
        self._coordinators = coordinators
        #: URL -> the coordinator met there that another URL leads to as well.
        self._twins: dict[str, str | None] = {}
        self._collections = collections
        self.relaying = Relaying(shell, offers, coordinators)
        stored = partial(self.say_outbox, to_pool=False)
        self.performer = Performer(shell, outbox, offers, self.relaying, coordinators, stored)
        self.perform, self.disk = self.performer.perform, self.performer.disk
        self.changed = Event()  # offers may have a new deadline

    # --- from coordinators (peer/seam.py) ------------------------------------------------

    def tell(self, to: str, message: Message) -> None:
        if isinstance(message, JobCancel):
            self._offers.cancelled(message)
        self._shell.tell(to, message)

    def offered(self, url: str, offer: Offered) -> None:
        key = JobKey(owner=url, run_id=offer.run_id, job_id=offer.job_id)
        now = time.monotonic()
        self.perform(self._offers.offered(key, offer.message_id, offer.reroute, now))
        self.changed.set()

    def receipted(self, url: str, receipt: Receipted) -> None:
        key = self._outbox.confirmed_key(url, receipt.run_id, receipt.job_id)
        self._coordinators[url].outflow.ended(key)
        self.perform(self._offers.receipted(key))

    def collect(self, url: str, wanted: Collect) -> None:
        self._collections.start(url, wanted)

    def uncollect(self, url: str) -> None:
        self._collections.lost(url)

    def joined(self, url: str, joined: Joined) -> bool:
        for other in self._coordinators.values():
            same = joined.coordinator_id and other.coordinator_id == joined.coordinator_id
            if other.url != url and other.connected and same:
                urls = {"url": shown_url(url), "first": shown_url(other.url)}
                fields = {**urls, "coordinatorId": joined.coordinator_id}
                log.warning("Two URLs lead to one coordinator; the second is dropped", extra=fields)
                self._twins[url] = joined.coordinator_id
                return False
        self._twins.pop(url, None)
        self._coordinators[url].joined(joined)
        return True

    def part(self, url: str) -> None:
        """Whichever of two connections ends, a reference coordinator counts this worker as gone
        and never reads the other one again (3.10); ours has closed the first. So it joins anew."""
        for other in self._coordinators.values():
            if other.url != url and other.coordinator_id == self._twins.get(url):
                other.rejoin()

    def has_twin(self, url: str) -> bool:
        twin = self._twins.get(url)
        return twin is not None and any(
            other.url != url and other.connected and other.coordinator_id == twin
            for other in self._coordinators.values()
        )

    def replay(self, url: str, coordinator_id: str | None) -> None:
        """Every concluded record of ``url`` is sent (again), after the job's logs (P54, P55)."""
        late = time.monotonic() - self._started_at >= ORPHAN_AFTER_S
        self._outbox.adopt_orphans(url, coordinator_id, any_cluster=late)
        keys = self._outbox.concluded(url)
        if keys:
            ids = [key.job_id for key in keys[:20]]
            fields = {"url": shown_url(url), "count": len(keys), "jobIds": ids}
            log.info("Replaying buffered terminal job statuses to coordinator", extra=fields)
        for key in keys:
            self._coordinators[url].report(key)

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

    def heard_pool(self, boot_id: str) -> None:
        """Before each message of the pool: from which of its starts it is."""
        self._offers.pool = boot_id

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
            state = msgspec.structs.replace(self._outbox_state(), pool=self._offers.pool)
            self._shell.tell("pool", state)

    def _outbox_state(self) -> OutboxState:
        return self._outbox.state(self._publisher.next_rev())

    def say_spool(self) -> None:
        self._publisher.publish("spool", self._spool.state(self._publisher.next_rev()))
