"""Which control message is which event of the drain machine."""

from kici.contracts.link import Message
from kici.contracts.link.lifecycle import (
    DrainDone,
    DrainRequest,
    HandoverReady,
    UndrainRequest,
)
from kici.supervisor.drain import Drain
from kici.supervisor.drain_actions import Action


def hear(machine: Drain, body: Message, now: float, wall: float) -> list[Action]:
    """What ``machine`` wants done about ``body``; nothing about other messages."""
    match body:
        case DrainRequest(source=source, reason=reason, deadline_s=deadline_s):
            return machine.request(source, reason, deadline_s, now, wall)
        case UndrainRequest(source=source):
            return machine.undrain(source)
        case DrainDone(rev=rev):
            return machine.drained(rev, now)
        case HandoverReady():
            return machine.ready_to_hand_over(now)
    return []
