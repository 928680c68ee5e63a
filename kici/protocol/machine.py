"""What every pure machine shares: its interface and the actions that it returns.

A machine gets messages and the time, returns actions and never sleeps, logs, reads a
clock, opens anything, or raises for a peer's mistake. ``now`` is monotonic seconds;
machines that put wall-clock time on the wire get it through ``wall`` given to their
constructor by the shell (a callable) or in the event.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from kici.contracts.link import JobKey, Message


class Action(msgspec.Struct, frozen=True):
    """Something the shell shall do."""


class Send(Action, frozen=True):
    """Write one text frame on this machine's connection."""

    text: str


class Close(Action, frozen=True):
    """Close this machine's connection with a WebSocket close code."""

    code: int
    reason: str


class Tell(Action, frozen=True):
    """Send a link message to another of our processes (``peer``, ``pool``, ``web`` …)."""

    to: str
    message: Message


class Note(Action, frozen=True):
    """One log line: machines do not log, shells do. ``fields`` never hold a secret."""

    level: str
    message: str
    fields: Mapping[str, Any] = {}


class Store(Action, frozen=True):
    """Make ``record`` durable before anything that follows it in the list is done."""

    key: JobKey
    record: bytes


class Forget(Action, frozen=True):
    """Delete the durable record of ``key``."""

    key: JobKey


Actions = list[Action]


class Machine(Protocol):
    """The shape of the machines that drive one connection."""

    #: Monotonic seconds at which ``tick`` wants to be called; None: not at all.
    deadline: float | None

    def start(self, now: float) -> Actions: ...
    def receive(self, message: Any, now: float) -> Actions: ...
    def tick(self, now: float) -> Actions: ...
    def lost(self, reason: str, now: float) -> Actions: ...
