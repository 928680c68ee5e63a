"""Frames of the pool on their way to a coordinator's outflow, and the credit for logs."""

from collections.abc import Mapping

from kici.contracts.link import JobKey
from kici.contracts.link.jobs import LogCredit
from kici.peer.coordinator import Coordinator
from kici.peer.spool import Frame
from kici.protocol.offers import Offers
from kici.shell.child import ChildShell

#: Log bytes the pool may have on their way to us; given back as they leave.
CREDIT_BYTES = 2**20
#: Given back in such steps, not for each line.
_REFUND_BYTES = 64 * 1024


class Relaying:
    """Owns: what the pool may still send, and frames that wait for an acknowledgement.
    Told by: the desk, and the outflows as bytes leave."""

    def __init__(
        self, shell: ChildShell, offers: Offers, coordinators: Mapping[str, Coordinator]
    ) -> None:
        self._shell = shell
        self._offers = offers
        self._coordinators = coordinators
        self._unrefunded = 0
        #: Jobs whose open record is being written -> their frames, in order.
        self._promising: dict[JobKey, list[tuple[Frame, int]]] = {}

    def grant(self) -> None:
        """A pool without credit gets all of it."""
        self._unrefunded = 0
        self._shell.tell("pool", LogCredit(n_bytes=CREDIT_BYTES))

    def refund(self, n_bytes: int) -> None:
        """Log bytes have left: the pool may send as many again."""
        self._unrefunded += n_bytes
        if self._unrefunded >= _REFUND_BYTES:
            amount, self._unrefunded = self._unrefunded, 0
            self._shell.tell("pool", LogCredit(n_bytes=amount))

    def relay(self, key: JobKey, frame: bytes, n_lines: int = 0, credit: int = 0) -> None:
        """One frame of a job; of a job that is not ours (any more) it is dropped and counted."""
        coordinator = self._coordinators.get(key.owner)
        if coordinator is None or not self._offers.relays(key):
            self.refund(credit)
            if coordinator is not None:
                coordinator.counters["frames_not_owned"] += 1
            return
        item = Frame(key.owner, key.run_id, key.job_id, n_lines, frame)
        if key in self._promising:
            # Nothing about a job goes out before its acknowledgement.
            self._promising[key].append((item, credit))
        else:
            coordinator.outflow.put(item, credit)

    def hold(self, key: JobKey) -> None:
        """The acceptance of ``key`` waits for the disk, and its frames with it."""
        self._promising[key] = []

    def promised(self, key: JobKey) -> None:
        """The acknowledgement is on its way: now the frames that came meanwhile."""
        for item, credit in self._promising.pop(key, ()):
            self._coordinators[key.owner].outflow.put(item, credit)

    def refused(self, key: JobKey) -> None:
        for _item, credit in self._promising.pop(key, ()):
            self.refund(credit)
