"""What an agent session asks of its shell, beside the actions of every machine."""

from typing import Any

from kici.contracts.wire import Wire
from kici.contracts.wire.agent.services import FleetBundleChunk, FleetBundleError
from kici.contracts.wire.agent.session import AgentRegister
from kici.protocol.machine import Action


class Registration(Action, frozen=True):
    """Every gate that can be judged here is passed: check gate 3 and ask the core, then call
    ``registered`` or ``refused``. ``again``: this connection was registered before."""

    message: AgentRegister
    grant: Any
    again: bool


class Said(Action, frozen=True):
    """A frame for the core."""

    message: Wire


class Bundled(Action, frozen=True):
    """A piece of a log bundle (2.2.23), for the one who asked for it."""

    message: FleetBundleChunk | FleetBundleError


class PingAgent(Action, frozen=True):
    """Send a WebSocket ping."""
