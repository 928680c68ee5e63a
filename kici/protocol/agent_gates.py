"""Registration gates: what a token allows an agent to call itself (agent spec 1.6)."""

from collections.abc import Collection, Sequence
from typing import Protocol

from kici.contracts.wire.agent.session import AgentRegister
from kici.errors import RemoteError
from kici.protocol.labels import MAX_LABELS, canonical, canonical_set

PRIVILEGED = "kici:privileged:root"
#: What an agent may say about itself beyond its token (0.9.1 adds ``kici:runtime:``).
SELF_REPORTED = ("kici:os:", "kici:arch:", "kici:host:", "kici:runtime:")
#: Permanent for the agent: an operator must act (A9).
NOT_ALLOWED = 4010
#: The agent may try again (gate 3; anything malformed).
INVALID = 4003

#: Characters of a label, name or version; longer labels match no pattern either.
MAX_TEXT = 256
#: Jobs that one agent may claim to run.
MAX_IN_FLIGHT = 1000


class Grant(Protocol):
    """What of ``pool.seam.TokenGrant`` the gates look at."""

    @property
    def token_id(self) -> str: ...
    @property
    def labels(self) -> tuple[str, ...] | None: ...
    @property
    def mandatory_labels(self) -> tuple[str, ...]: ...


def check(message: AgentRegister, grant: Grant | None) -> RemoteError | None:
    """Size, gate 0 and, with a token, gate 1: the first objection of them."""
    return (
        _check_size(message)
        or _check_privileged(message, grant)
        or (None if grant is None else _check_scope(message, grant.labels))
    )


def _check_size(message: AgentRegister) -> RemoteError | None:
    """Bounds of what an agent says about itself: all of it is shown and advertised, and one
    heartbeat with it must stay below the coordinator's frame limit."""
    texts = {
        "agentId": message.agent_id,
        "platform": message.platform,
        "arch": message.arch,
        "version": message.version,
        "hostname": message.hostname,
    }
    for name, text in texts.items():
        if text is not None and len(text) > MAX_TEXT:
            return RemoteError(INVALID, f"{name} is longer than {MAX_TEXT} characters")
    if len(message.labels) > MAX_LABELS or any(len(label) > MAX_TEXT for label in message.labels):
        return RemoteError(INVALID, f"more than {MAX_LABELS} labels, or one above {MAX_TEXT}")
    if len(message.in_flight_jobs or ()) > MAX_IN_FLIGHT:
        return RemoteError(INVALID, f"more than {MAX_IN_FLIGHT} jobs in flight")
    return None


def token_bound(labels: Sequence[str]) -> tuple[str, ...]:
    """``labels`` without those that every agent may report, canonical, sorted."""
    return tuple(
        sorted(label for label in canonical_set(labels) if not label.startswith(SELF_REPORTED))
    )


def _check_privileged(message: AgentRegister, grant: Grant | None) -> RemoteError | None:
    """Gate 0 (A12): root's labels are for root, in every mode."""
    claimed: set[str] = {canonical(label) for label in message.labels}
    if grant is not None:
        claimed |= canonical_set(grant.labels or ()) | canonical_set(grant.mandatory_labels)
    if PRIVILEGED not in claimed or message.running_as_uid == 0:
        return None
    uid = "unknown" if message.running_as_uid is None else message.running_as_uid
    return RemoteError(
        NOT_ALLOWED, f"privileged-root token presented by non-root agent (uid={uid})"
    )


def _check_scope(message: AgentRegister, labels: Collection[str] | None) -> RemoteError | None:
    """Gate 1 (A10): every label is the token's, or one that agents report themselves."""
    if labels is None:
        return None
    allowed = canonical_set(labels)
    beyond = [label for label in token_bound(message.labels) if label not in allowed]
    if not beyond:
        return None
    return RemoteError(NOT_ALLOWED, f"Agent labels exceed token-bound scope: {','.join(beyond)}")
