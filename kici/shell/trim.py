"""Give memory back to the system after a burst of large messages.

glibc keeps what was freed below the top of its heap: after the logs of 32 busy agents the
pool kept 28 MB for ever. ``malloc_trim`` returns it in a few milliseconds; done once, when
the burst is over, it costs no wake-up of an idle process.
"""

import gevent

from kici.shell import host

#: Traffic that may have made the heap grow; less is not worth a trim.
BURST_BYTES = 8 * 2**20
#: The burst is over when less than ``_QUIET_BYTES`` pass in this time.
QUIET_S = 2.0
_QUIET_BYTES = 256 * 1024


class Trimmer:
    """Owns: the count of bytes since the last trim. Told by: the links of this process."""

    def __init__(self, quiet_s: float = QUIET_S) -> None:
        self.n_trims = 0
        self._quiet_s = quiet_s
        self._n_bytes = 0
        self._waits = False

    def passed(self, n_bytes: int) -> None:
        """A message of ``n_bytes`` was sent or received."""
        self._n_bytes += n_bytes
        if self._n_bytes >= BURST_BYTES and not self._waits:
            self._waits = True
            gevent.spawn(self._trim_when_quiet)

    def _trim_when_quiet(self) -> None:
        before = -_QUIET_BYTES
        while self._n_bytes - before >= _QUIET_BYTES:
            before = self._n_bytes
            gevent.sleep(self._quiet_s)
        self._n_bytes, self._waits = 0, False
        host.return_freed_memory()
        self.n_trims += 1
