"""What goes to Loki: lines wait in a bounded buffer and leave in batches. Pure.

Labels are only ``service`` and ``instance``; ``level``, ``requestId``, ``runId`` and ``jobId``
are structured metadata of each line (seed, "Loki").
"""

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

#: Lines that wait while Loki is away: about an hour of a busy worker.
MAX_BUFFER_BYTES = 8 * 2**20
#: One push: half of Loki's default limit on a request, and quick to send again.
MAX_BATCH_BYTES = 1 * 2**20
MAX_BATCH_LINES = 5000
#: Loki refuses lines of 256 KiB.
MAX_LINE_CHARS = 200 * 1024
#: Lines of several processes overtake each other by less than this.
_ORDER_NS = 5 * 10**9
_PER_LINE = 100  # what a queued line costs beside its text


class Line(msgspec.Struct, frozen=True):
    """The fields of a log line that Loki gets apart; all others stay in its text."""

    timestamp: str = ""
    level: str = "info"
    requestId: str | None = None  # noqa: N815 - the log's own name
    runId: str | None = None  # noqa: N815
    jobId: str | None = None  # noqa: N815


class Buffer:
    """Owns: the lines that Loki has not got. When full, new lines are dropped and counted:
    what is kept stays without holes up to the moment it filled."""

    def __init__(self, max_bytes: int = MAX_BUFFER_BYTES) -> None:
        self._lines: deque[bytes] = deque()
        self._max_bytes = max_bytes
        self.n_bytes = 0
        self.n_dropped = 0

    def __len__(self) -> int:
        return len(self._lines)

    def offer(self, line: bytes) -> bool:
        cost = len(line) + _PER_LINE
        if self.n_bytes + cost > self._max_bytes:
            self.n_dropped += 1
            return False
        self._lines.append(line)
        self.n_bytes += cost
        return True

    def is_batch(self) -> bool:
        """Enough for a push before its time has come."""
        return self.n_bytes >= MAX_BATCH_BYTES or len(self._lines) >= MAX_BATCH_LINES

    def take(self) -> list[bytes]:
        """The oldest lines, at most one batch of them."""
        batch: list[bytes] = []
        size = 0
        while self._lines and len(batch) < MAX_BATCH_LINES:
            cost = len(self._lines[0]) + _PER_LINE
            if batch and size + cost > MAX_BATCH_BYTES:
                break
            batch.append(self._lines.popleft())
            size += cost
        self.n_bytes -= size
        return batch


class Encoder:
    """Makes push bodies. Owns: the last time stamp, so that order survives equal times."""

    def __init__(self, instance: str, service: str = "orchestrator") -> None:
        self._labels = {"service": service, "instance": instance}
        self._last_ns = 0
        self._decode = msgspec.json.Decoder(Line).decode
        self._encode = msgspec.json.Encoder().encode

    def body(self, lines: Sequence[bytes]) -> bytes:
        """The JSON of one push with ``lines`` in their order."""
        values = [self._value(line) for line in lines]
        return self._encode({"streams": [{"stream": self._labels, "values": values}]})

    def _stamp(self, own_ns: int | None) -> int:
        """Behind the line before, unless the clock was put back since: what is stamped far
        ahead of the clock, Loki refuses."""
        next_ns = self._last_ns + 1
        if own_ns is None or own_ns < next_ns < own_ns + _ORDER_NS:
            return next_ns
        return own_ns

    def _value(self, line: bytes) -> tuple[str, str, dict[str, Any]]:
        try:
            fields = self._decode(line)
        except msgspec.DecodeError:  # also what is no UTF-8
            fields = Line()
        self._last_ns = self._stamp(_nanoseconds(fields.timestamp))
        named = {
            "level": fields.level,
            "requestId": fields.requestId,
            "runId": fields.runId,
            "jobId": fields.jobId,
        }
        metadata = {name: value for name, value in named.items() if value}
        text = line.decode("utf-8", "replace")[:MAX_LINE_CHARS]
        return str(self._last_ns), text, metadata


def _nanoseconds(timestamp: str) -> int | None:
    try:
        return round(datetime.fromisoformat(timestamp).timestamp() * 1000) * 1_000_000
    except ValueError:
        return None


def is_retried(status: int) -> bool:
    """429 and 5xx are tried again; any other refusal never succeeds (design/environment)."""
    return status == 429 or status >= 500
