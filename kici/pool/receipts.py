"""No receipt before it is true: pongs to an agent wait until its job's end is stored.

To our own agent the pong to a ping is the receipt for all it sent before. The end of a job is
safe when the peer has it in the outbox (``job.stored``); a pool that dies earlier must find an
agent that still lists the job.
"""

from collections.abc import Callable

from kici.contracts.states import WIRE_TERMINAL
from kici.contracts.wire import Wire
from kici.contracts.wire.agent.jobs import JobStatus
from kici.pool.seam import AgentConnection

_ENDS = frozenset(str(state) for state in WIRE_TERMINAL)


class Receipts:
    """Owns: which connections get no pong now. ``unstored`` says whether an agent id has an
    end that only our memory holds. Told by: the pool's loop."""

    def __init__(self, unstored: Callable[[str], bool]) -> None:
        self._unstored = unstored
        self._held: dict[str, AgentConnection] = {}

    def said(self, connection: AgentConnection, message: Wire) -> None:
        """The core has handled ``message``; its reader has not gone on yet."""
        ended = isinstance(message, JobStatus) and message.state in _ENDS
        if ended and self._unstored(connection.agent_id):
            connection.hold_receipts()
            self._held[connection.connection_id] = connection

    def stored(self) -> None:
        """Some end was stored: give what is true now."""
        for connection_id, connection in list(self._held.items()):
            if not self._unstored(connection.agent_id):
                del self._held[connection_id]
                connection.give_receipts()

    def lost(self, connection: AgentConnection) -> None:
        self._held.pop(connection.connection_id, None)
