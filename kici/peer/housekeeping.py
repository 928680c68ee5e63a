"""What comes back every minute: retries of the disk, retention, the credential's age."""

import time

import gevent

from kici.contracts.link.jobs import JobStored
from kici.peer.coordinator import Coordinator
from kici.peer.credentials import Credentials
from kici.peer.desk import PeerDesk
from kici.peer.outbox import Outbox
from kici.peer.spool import Spool
from kici.protocol.offers import Offers
from kici.shell.child import ChildShell

_EVERY_S = 60.0
#: While the disk refuses something, or the spool's display moves.
_RETRY_S = 5.0
_AGE_WARNING_S = 86400.0


class Housekeeping:
    """Owns: when it was last said how old the credential is, and how full the spool."""

    def __init__(
        self,
        shell: ChildShell,
        desk: PeerDesk,
        outbox: Outbox,
        spool: Spool,
        offers: Offers,
        credentials: Credentials,
        coordinators: dict[str, Coordinator],
    ) -> None:
        self._shell = shell
        self._desk = desk
        self._outbox = outbox
        self._spool = spool
        self._offers = offers
        self._credentials = credentials
        self._coordinators = coordinators

    def run(self) -> None:
        warn_at = time.monotonic() + _AGE_WARNING_S
        shown = (0, 0)
        while True:
            self._wait()
            self._desk.disk.put(self._tidy_outbox)
            self._credentials.write_pending()
            if (self._spool.n_bytes, self._spool.n_lost_lines) != shown:
                shown = (self._spool.n_bytes, self._spool.n_lost_lines)
                self._desk.say_spool()
            if time.monotonic() >= warn_at:
                warn_at += _AGE_WARNING_S
                self._credentials.warn_of_age()

    def _wait(self) -> None:
        refused = self._desk.performer.refused
        if self._outbox.has_unwritten or self._spool.n_bytes:
            gevent.sleep(_RETRY_S)
        else:
            refused.wait(_EVERY_S)
        refused.clear()

    def _tidy_outbox(self) -> None:
        disk = self._desk.disk
        for key in disk.in_thread(self._outbox.retry_unwritten):
            self._shell.tell("pool", JobStored(key=key))
        stale = disk.in_thread(self._outbox.prune)
        for key in stale:
            self._offers.expired(key)
            if key.owner in self._coordinators:
                self._coordinators[key.owner].counters["records_expired"] += 1
        if stale:
            self._desk.say_outbox(to_pool=False)
