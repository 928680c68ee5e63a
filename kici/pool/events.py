"""What the pool core is told, besides the link messages that it takes as they are."""

from collections.abc import Sequence

import msgspec

from kici.config.model import ScalerConfig
from kici.contracts.wire import Wire
from kici.contracts.wire.agent.session import AgentRegister
from kici.pool.guards import Reading
from kici.pool.scalers.base import BackendEvent, FoundAgent
from kici.pool.seam import TokenGrant


class Event(msgspec.Struct, frozen=True):
    """Something that happened."""


class AgentRegistered(Event, frozen=True):
    """All gates of agent spec 1.6 are passed."""

    connection_id: str
    register: AgentRegister
    grant: TokenGrant | None


class AgentSaid(Event, frozen=True):
    connection_id: str
    message: Wire


class AgentLost(Event, frozen=True):
    connection_id: str
    reason: str


class SendFailed(Event, frozen=True):
    """A frame could not be written: the socket is no longer open."""

    connection_id: str
    message: Wire


class BackendReported(Event, frozen=True):
    event: BackendEvent


class LedgerRefused(Event, frozen=True):
    """The machine pool has no room (``failed`` false) or its ledger is broken."""

    agent_id: str
    reason: str
    failed: bool = False


class HealthChanged(Event, frozen=True):
    """``reason`` empty: launches of this scaler can work."""

    scaler: str
    reason: str


class AgentsSought(Event, frozen=True):
    """Backends are asked what exists; until ``AgentsFound`` nothing of one is started. Not
    ``complete``: there may be agents that none of them can tell of."""

    scalers: Sequence[str]
    complete: bool = True


class AgentsFound(Event, frozen=True):
    """What a backend found at start, with our owner mark; maybe nothing.
    Not ``certain``: it could not look, so there may be more."""

    scaler: str
    agents: Sequence[FoundAgent]
    certain: bool = True


class ScalersChanged(Event, frozen=True):
    scalers: ScalerConfig


class PeerBooted(Event, frozen=True):
    """The peer process has a new boot id: it knows nothing of what it was told."""


class MachineRead(Event, frozen=True):
    """How the machine is now (guards)."""

    reading: Reading


class Tick(Event, frozen=True):
    """``deadline`` has passed."""
