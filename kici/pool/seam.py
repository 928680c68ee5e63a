"""The seam between the agent server (sockets, handshakes, tokens) and the pool's core (jobs,
schedule, scaling). Either side is tested against this file alone."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from kici.contracts.wire import Wire
from kici.contracts.wire.agent.session import AgentRegister, RegisterAck
from kici.errors import RemoteError


class TokenGrant(msgspec.Struct, frozen=True, kw_only=True):
    """What a valid agent token allows (agent spec 1.7).

    ``labels`` None allows any; ``agent_id`` None binds to nobody (static tokens).
    ``expires_at`` is wall-clock seconds, checked at authentication only: a running agent is
    never cut off by it (scaler spec 2.9, R).
    """

    token_id: str
    kind: str  # "ephemeral" or "static"
    agent_id: str | None = None
    labels: tuple[str, ...] | None = None
    mandatory_labels: tuple[str, ...] = ()
    expires_at: float | None = None


class AgentConnection(Protocol):
    """One authenticated and registered socket, as the core may use it."""

    #: Unique in this process; a superseding connection of the same agent has another one.
    connection_id: str
    agent_id: str
    grant: TokenGrant | None

    def send(self, message: Wire) -> bool:
        """Queue one frame; False when the socket is no longer open (A39)."""

    def close(self, code: int, reason: str) -> None: ...

    def pause(self) -> None:
        """Stop reading this agent: TCP does the rest (no log credit)."""

    def resume(self) -> None: ...

    def hold_receipts(self) -> None:
        """Answer no ping: what this agent said last is not safe yet."""

    def give_receipts(self) -> None:
        """It is safe: answer pings again."""


class AgentEvents(Protocol):
    """What the server tells the core, in the order of arrival per connection."""

    def registered(
        self, connection: AgentConnection, message: AgentRegister
    ) -> RegisterAck | RemoteError:
        """All gates of agent spec 1.6 are passed. The ack is sent before any dispatch; a
        ``RemoteError`` closes with its code. Also called for a repeated register."""

    def said(self, connection: AgentConnection, message: Wire) -> None:
        """A valid frame other than register and auth. Requests that a worker refuses
        (agent spec 4.5 class REF/ANS) are answered by the server and do not come here."""

    def lost(self, connection: AgentConnection, reason: str) -> None:
        """The socket of an agent is closed."""

    def forgotten(self, connection: AgentConnection) -> None:
        """A socket that spoke for no agent (any more) is closed: superseded, or refused."""


#: token text -> grant, or None when it is unknown, expired or revoked.
Verify = Callable[[str], TokenGrant | None]
