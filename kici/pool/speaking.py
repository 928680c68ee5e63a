"""Actions of the core on one agent's connection."""

from collections.abc import MutableMapping

from kici.errors import LocalError
from kici.pool.actions import CloseAgent, PauseAgent, ResumeAgent
from kici.pool.seam import AgentConnection
from kici.protocol.machine import Action


def perform_on(connections: MutableMapping[str, AgentConnection], action: Action) -> None:
    """Close, pause or resume; harmless when the connection is gone already."""
    match action:
        case CloseAgent(connection_id, code, reason):
            connection = connections.pop(connection_id, None)
            if connection is not None:
                connection.close(code, reason)
        case PauseAgent(connection_id):
            connection = connections.get(connection_id)
            if connection is not None:
                connection.pause()
        case ResumeAgent(connection_id):
            connection = connections.get(connection_id)
            if connection is not None:
                connection.resume()
        case _:
            raise LocalError(f"nobody performs {type(action).__name__}")
