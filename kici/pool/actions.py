"""What the pool core asks of its shell, besides ``Tell`` and ``Note`` of protocol/machine.

Connections, agents and scalers are named, never held: the shell looks them up and ignores
what is gone by then.
"""

from collections.abc import Mapping
from typing import Any

from kici.config.model import ResourceSpec
from kici.contracts.wire import Wire
from kici.contracts.wire.agent.session import RegisterAck
from kici.errors import RemoteError
from kici.protocol.machine import Action


class AnswerRegister(Action, frozen=True):
    """The result of ``AgentRegistered``; handed back to the server before anything that
    follows it is performed (A15)."""

    connection_id: str
    answer: RegisterAck | RemoteError


class SendAgent(Action, frozen=True):
    """Write one frame; a closed socket is reported back as ``SendFailed`` (A39)."""

    connection_id: str
    message: Wire


class CloseAgent(Action, frozen=True):
    connection_id: str
    code: int
    reason: str


class PauseAgent(Action, frozen=True):
    """No log credit: stop reading this connection."""

    connection_id: str


class ResumeAgent(Action, frozen=True):
    connection_id: str


class LaunchAgent(Action, frozen=True, kw_only=True):
    """Start one agent: reserve in the machine pool's ledger when the scaler has one, mint
    the token, build the environment, call the backend. A refusal or an error comes back as
    ``BackendReported(failed)`` or ``LedgerRefused``."""

    agent_id: str
    scaler: str
    label_set: int
    requests: ResourceSpec
    limits: ResourceSpec
    run_id: str | None = None
    job_id: str | None = None
    image: str | None = None
    #: SECRET.
    registry_auth: Mapping[str, Any] | None = None


class ReapAgent(Action, frozen=True, kw_only=True):
    """Make the agent disappear; ends in ``exited`` or ``failed`` of the backend."""

    agent_id: str
    scaler: str
    grace_s: float


class AdoptAgent(Action, frozen=True, kw_only=True):
    """Watch an agent that was found after a restart."""

    agent_id: str
    scaler: str


class ReleaseLedger(Action, frozen=True, kw_only=True):
    """The agent is gone: give back what the ledger reserved for it (harmless if nothing)."""

    agent_id: str
    scaler: str
