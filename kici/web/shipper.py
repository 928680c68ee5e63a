"""Sends our log lines to Loki from the web process, so that no job ever waits for it.

Owns: the buffer and the one push in flight. Told by: the log pipe.
"""

import gzip
import http.client
import logging
import random
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event

from kici.config.model import Settings
from kici.shell.loki import Push
from kici.web.loki_batch import Buffer, Encoder, is_retried

logger = logging.getLogger("kici.web")

#: A line waits at most this long for company.
BATCH_S = 1.0
FIRST_RETRY_S = 0.5
MAX_RETRY_S = 30.0


class Shipper:
    def __init__(self, settings: Settings, rng: Callable[[], float] = random.random) -> None:
        self.buffer = Buffer()
        self.n_sent = 0
        self.n_refused = 0
        self.n_retries = 0
        self.n_dropped_before = 0
        self.last_error = ""
        self._push = Push(settings)
        self._encoder = Encoder(settings.instance_id)
        self._rng = rng
        self._wake = Event()
        self._in_flight = 0

    @property
    def n_dropped(self) -> int:
        """Lines that were never sent: no room here or in the pipe."""
        return self.buffer.n_dropped + self.n_dropped_before

    def offer(self, line: bytes, n_dropped_before: int = 0) -> None:
        """Take one line in; never blocks."""
        self.n_dropped_before += n_dropped_before
        was_empty = not len(self.buffer)
        self.buffer.offer(line)
        if was_empty or self.buffer.is_batch():
            self._wake.set()

    def run(self) -> None:
        """Ship for ever; nothing runs while there is nothing to ship."""
        while True:
            self._wake.wait()
            self._wake.clear()
            if not self.buffer.is_batch():
                gevent.sleep(BATCH_S)
            while batch := self.buffer.take():
                self._in_flight = len(batch)
                self._deliver(self._encoder.body(batch), len(batch))
                self._in_flight = 0

    def finish(self, within_s: float) -> None:
        """Give what waits a last chance."""
        with gevent.Timeout(within_s, False):
            while len(self.buffer) or self._in_flight:
                self._wake.set()
                gevent.sleep(0.05)

    def facts(self) -> dict[str, Any]:
        """For ``/status``."""
        return {
            "sentLines": self.n_sent,
            "waitingLines": len(self.buffer) + self._in_flight,
            "droppedLines": self.n_dropped,
            "refusedLines": self.n_refused,
            "retries": self.n_retries,
            "lastError": self.last_error or None,
        }

    def _deliver(self, body: bytes, n_lines: int) -> None:
        packed = gzip.compress(body, compresslevel=1)
        attempt = 0
        while True:
            status, reason = self._try(packed)
            if 200 <= status < 300:
                self.n_sent += n_lines
                self._note_recovery()
                return
            self._note_failure(reason)
            if not is_retried(status):
                self.n_refused += n_lines
                return
            self.n_retries += 1
            ceiling = min(MAX_RETRY_S, FIRST_RETRY_S * 2 ** min(attempt, 10))
            gevent.sleep(ceiling * (0.5 + self._rng() / 2))
            attempt += 1

    def _try(self, packed: bytes) -> tuple[int, str]:
        try:
            return self._push.send(packed)
        except (OSError, http.client.HTTPException) as error:
            return 599, str(error) or type(error).__name__
        except UnicodeError as error:
            return 599, str(error)
        except ValueError:  # its text quotes the header, which may be the token's
            return 599, "a header has characters that HTTP cannot carry"

    def _note_failure(self, reason: str) -> None:
        # One line an outage: each line logged here is itself one to be shipped.
        if not self.last_error:
            logger.warning("Log shipping to Loki failed", extra={"error": reason})
        self.last_error = reason

    def _note_recovery(self) -> None:
        if self.last_error:
            logger.info("Log shipping to Loki works again", extra={"count": self.n_dropped})
        self.last_error = ""
