"""Doing what the core decides: towards neighbours, agents and backends."""

import logging
from collections.abc import Callable

from kici.errors import LocalError
from kici.pool.actions import (
    AdoptAgent,
    CloseAgent,
    LaunchAgent,
    PauseAgent,
    ReapAgent,
    ReleaseLedger,
    ResumeAgent,
    SendAgent,
)
from kici.pool.events import SendFailed
from kici.pool.fleet import Fleet
from kici.pool.seam import AgentConnection
from kici.pool.showing import Showing
from kici.pool.staff import CLOSE_GOING_AWAY
from kici.protocol.machine import Action, Note, Tell
from kici.shell.child import ChildShell

_log = logging.getLogger("kici.pool")
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "warn": 30, "error": 40}


class Performer:
    """Owns: the connections of registered agents, by id. ``failed`` is told what could not be
    sent. Closing, pausing and resuming a connection that is gone is harmless."""

    def __init__(
        self, shell: ChildShell, fleet: Fleet, failed: Callable[[SendFailed], None]
    ) -> None:
        self._shell = shell
        self._fleet = fleet
        self._failed = failed
        self._showing = Showing(lambda view: shell.try_tell("web", view))
        self.connections: dict[str, AgentConnection] = {}
        #: Agents are left as they are: the next start decides, from what it finds.
        self.leaves_agents = False

    def perform(self, action: Action) -> None:
        match action:
            case Tell("web", message):
                self._showing.show(message)
            case Tell(to, message):
                self._shell.tell(to, message)
            case Note(level, message, fields):
                _log.log(_LEVELS[level], message, extra=dict(fields))
            case SendAgent():
                self._send(action)
            case LaunchAgent() | ReapAgent() | AdoptAgent() | ReleaseLedger():
                if not self.leaves_agents:
                    self._have_done(action)
            case CloseAgent() | PauseAgent() | ResumeAgent():
                self._on_connection(action)
            case _:
                raise LocalError(f"nobody performs {type(action).__name__}")

    def _send(self, action: SendAgent) -> None:
        connection = self.connections.get(action.connection_id)
        if connection is None or not connection.send(action.message):
            self._failed(SendFailed(action.connection_id, action.message))
            if connection is not None:
                # The core has forgotten it: should it still be open, its agent must dial anew.
                connection.close(CLOSE_GOING_AWAY, "Frame could not be sent")

    def _have_done(self, action: LaunchAgent | ReapAgent | AdoptAgent | ReleaseLedger) -> None:
        match action:
            case LaunchAgent():
                self._fleet.launch(action)
            case ReapAgent():
                self._fleet.reap(action)
            case AdoptAgent(agent_id=agent_id, scaler=scaler):
                self._fleet.adopt(agent_id, scaler)
            case ReleaseLedger(agent_id=agent_id, scaler=scaler):
                self._fleet.release(agent_id, scaler)

    def _on_connection(self, action: CloseAgent | PauseAgent | ResumeAgent) -> None:
        connection = self.connections.get(action.connection_id)
        if connection is None:
            return
        match action:
            case CloseAgent(connection_id, code, reason):
                del self.connections[connection_id]
                connection.close(code, reason)
            case PauseAgent():
                connection.pause()
            case ResumeAgent():
                connection.resume()
