"""A worker's answer to ``peer.logs.collect.request``, as a pure machine (peer spec 4.18, 4.19).

One collection at a time on a connection; it ends with the last chunk, with an error, or when
its time is over, whichever comes first, and says exactly one of these.
"""

from math import inf

import msgspec

from kici.contracts.wire import encode
from kici.contracts.wire.peer.fleet import (
    LogSelection,
    PeerLogsCollectChunk,
    PeerLogsCollectError,
    PeerLogsCollectRequest,
)
from kici.protocol.bundle_pieces import encoded
from kici.protocol.machine import Action

#: The answer must be complete within 45 s (4.18); a second is for its way.
WITHIN_S = 44.0
#: Of which agents get this much.
AGENTS_WITHIN_S = 30.0
#: Longer windows mean: everything that is kept.
MAX_HOURS = 24 * 366.0
#: Agents that a request may name.
MAX_NAMED = 1000
#: Longer names and message ids are nobody's: each chunk repeats the latter.
MAX_NAME_CHARS = 256
_MAX_REASON = 500

BUSY = "Another log collection is running"
LATE = f"The bundle was not complete within {WITHIN_S:.0f} s"
UNCLEAR = "The selection is not understood"
TOO_LONG = f"A message id or agent id is above {MAX_NAME_CHARS} characters"
TOO_MANY = f"The selection names more than {MAX_NAMED} agents"

_selections: msgspec.json.Decoder[LogSelection] = msgspec.json.Decoder(LogSelection)


class Collect(Action, frozen=True):
    """Make a bundle: of this worker and of these agents (None: of all), ``hours`` back."""

    message_id: str
    hours: float
    agent_ids: tuple[str, ...] | None


class LogCollection:
    """Owns: the one collection that a coordinator may have running on its connection."""

    def __init__(self) -> None:
        self._message_id: str | None = None
        self._seq = 0
        #: When ``tick`` wants to be called.
        self.deadline = inf

    def asked(
        self, request: PeerLogsCollectRequest, now: float
    ) -> Collect | PeerLogsCollectError | None:
        """Begin, or refuse with a reason; None: this very request is being answered."""
        if request.message_id == self._message_id:
            return None
        if self._message_id is not None:
            return _error(request.message_id, BUSY)
        try:
            selection = _selections.decode(request.selection)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _error(request.message_id, UNCLEAR)
        if len(selection.agent_ids) > MAX_NAMED:
            return _error(request.message_id, TOO_MANY)
        if max(map(len, (request.message_id, *selection.agent_ids))) > MAX_NAME_CHARS:
            return _error(request.message_id, TOO_LONG)
        self._message_id, self._seq, self.deadline = request.message_id, 0, now + WITHIN_S
        hours = float(min(max(request.log_window_hours, 0), MAX_HOURS))
        agent_ids = None if selection.all else tuple(dict.fromkeys(selection.agent_ids))
        return Collect(request.message_id, hours, agent_ids)

    def tick(self, now: float) -> PeerLogsCollectError | None:
        """The end of a collection that took too long."""
        if self._message_id is None or now < self.deadline:
            return None
        late = _error(self._message_id, LATE)
        self._over()
        return late

    def piece(self, message_id: str, data: bytes, *, is_last: bool) -> bytes | None:
        """The next chunk as a message to seal; None when this collection is over."""
        if message_id != self._message_id:
            return None
        chunk = PeerLogsCollectChunk(
            message_id=message_id, seq=self._seq, is_last=is_last, data_b64=encoded(data)
        )
        self._seq += 1
        if is_last:
            self._over()
        return encode(chunk)

    def failed(self, message_id: str, reason: str) -> bytes | None:
        """The error as a message to seal; None when this collection is over."""
        if message_id != self._message_id:
            return None
        self._over()
        return encode(_error(message_id, reason[:_MAX_REASON]))

    def _over(self) -> None:
        self._message_id, self.deadline = None, inf


def _error(message_id: str, reason: str) -> PeerLogsCollectError:
    return PeerLogsCollectError(message_id=message_id, message=reason)
