"""The last events of the whole worker, for a debug bundle: owners publish every change, so
the web process has seen what happened, without any secret (views carry none)."""

from collections import deque
from typing import Any

from kici.contracts.link import Message
from kici.contracts.link.views import AgentView, DeclineView, JobLogTail, JobView, PeerState
from kici.web.moments import iso

#: About 1 MB of short texts at the most.
KEPT = 5000
_MAX_CHARS = 300


class Events:
    """Owns: the ring. Told by: ``main`` with every message."""

    def __init__(self) -> None:
        self._ring: deque[tuple[float, str, str, str]] = deque(maxlen=KEPT)

    def add(self, sender: str, body: Message, now: float) -> None:
        if not isinstance(body, JobLogTail):
            tag = str(type(body).__struct_config__.tag)
            self._ring.append((now, sender, tag, summary(body)[:_MAX_CHARS]))

    def all(self) -> list[dict[str, Any]]:
        """Oldest first."""
        return [
            {"at": iso(at), "from": sender, "type": tag, "what": what}
            for at, sender, tag, what in self._ring
        ]


def summary(body: Message) -> str:
    """What changed, in a few words."""
    if isinstance(body, JobView):
        return f"{body.key.job_id} {body.state} {body.outcome or ''} {body.error or ''}".strip()
    if isinstance(body, AgentView):
        return f"{body.agent_id} {body.state} {body.reason}".strip()
    if isinstance(body, PeerState):
        return f"{body.url} {body.state} {body.reason}".strip()
    if isinstance(body, DeclineView):
        return f"{body.job_name}: {body.reason}"
    fields = {name: getattr(body, name) for name in body.__struct_fields__}
    return " ".join(
        f"{name}={value}" for name, value in fields.items() if isinstance(value, str | int | float)
    )
