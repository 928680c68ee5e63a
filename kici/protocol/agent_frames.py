"""Frames of agents: parsing and the rules that types do not say (agent spec 2.0). Pure."""

import msgspec

from kici.contracts.wire import Wire
from kici.contracts.wire.agent import FromAgent
from kici.contracts.wire.agent.jobs import LogChunk, StepStatus
from kici.contracts.wire.agent.services import FleetBundleChunk, StepApprovalRequest
from kici.contracts.wire.agent.session import AgentRegister, AuthRequest
from kici.protocol.surrogates import mended

_from_agent = msgspec.json.Decoder(FromAgent)
#: What msgspec raises for bad input, deep nesting and bad UTF-8 included.
_BAD_INPUT = (msgspec.MsgspecError, RecursionError, ValueError, OverflowError)

#: Beyond these, numbers are nonsense that would overflow somewhere behind us.
_MAX_INDEX = 2**31 - 1
_MAX_NUMBER = 2**53


def parse(frame: str | bytes) -> Wire | None:
    """The message in ``frame``; None for anything that is not one (A23a)."""
    try:
        return _decode(frame)
    except _BAD_INPUT:
        pass
    try:
        return _decode(mended(frame))
    except _BAD_INPUT:
        return None


def _decode(frame: str | bytes) -> Wire:
    message: Wire = _from_agent.decode(frame)
    return message


def is_sound(message: Wire) -> bool:
    """The rules of section 2 that types do not say, and numbers that we can calculate with."""
    if isinstance(message, AuthRequest):
        return len(message.token) > 0 and message.protocol_version > 0
    if isinstance(message, AgentRegister):
        n = message.max_concurrency
        return message.agent_id != "" and (n is None or 0 < n <= _MAX_INDEX)
    if isinstance(message, StepStatus | StepApprovalRequest):
        sound = 0 <= message.step_index <= _MAX_INDEX
    elif isinstance(message, FleetBundleChunk):
        sound = 0 <= message.seq <= _MAX_INDEX
    elif isinstance(message, LogChunk):
        sound = -_MAX_INDEX <= message.step_index <= _MAX_INDEX
    else:
        sound = True
    return sound and abs(getattr(message, "timestamp", 0)) <= _MAX_NUMBER
