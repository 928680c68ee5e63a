"""What an acceptor's session is told once, and what it asks its shell to do."""

from enum import StrEnum
from typing import Any

import msgspec

from kici.contracts.wire.join import PeerAuthRequest
from kici.protocol.machine import Action

HEARTBEAT_INTERVAL_S = 30.0
#: Silence by our own clock after which the peer is cut off (C25, C26).
STALE_AFTER_S = 60.0


class AcceptorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What all links of a coordinator have in common."""

    instance_id: str
    software_version: str
    min_protocol_version: int = 1
    heartbeat_interval_s: float = HEARTBEAT_INTERVAL_S
    stale_after_s: float = STALE_AFTER_S


class Decide(Action, frozen=True):
    """Ask ``coordinator_auth.decide`` and call ``decided`` with its verdict. SECRET."""

    request: PeerAuthRequest
    nonce: bytes
    transcript: bytes


class Failed(Action, frozen=True):
    """Count a failure of this connection's address towards the limit (1.7)."""


class Joined(Action, frozen=True):
    """The peer is authenticated; ``software_version`` is what it says of itself."""

    instance_id: str
    role: str
    software_version: str | None


class Heard(Action, frozen=True):
    """A message that the coordinator must act on."""

    message: Any


class Left(Action, frozen=True):
    """The peer said ``peer.leaving``: nothing more for it; its close follows (C27)."""


class Phase(StrEnum):
    GREETING = "greeting"
    ASKED = "asked"
    DECIDING = "deciding"
    CONNECTED = "connected"
    CLOSED = "closed"
