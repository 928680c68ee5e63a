"""Pulling cluster settings from a coordinator (peer spec 4.21, P36)."""

from kici.contracts.link.jobs import SettingsChanged
from kici.contracts.wire.peer.fleet import PeerClusterSettingsResponse
from kici.protocol.machine import Actions, Note, Tell

#: The coordinator's deadline for its answer; afterwards the next heartbeat asks again.
ANSWER_WITHIN_S = 10.0
#: Larger numbers are nonsense, and no processes' link carries them.
MAX_NUMBER = 2**53


class SettingsPull:
    """Owns: the version of the settings in force, shared by all links of a worker."""

    def __init__(self) -> None:
        self.version = 0
        self._asked: str | None = None
        self._asked_until = 0.0

    def wanted(self, offered: float, now: float) -> bool:
        """Whether to ask: something newer is offered and no question is open."""
        return offered > self.version and (self._asked is None or now >= self._asked_until)

    def asked(self, message_id: str, now: float) -> None:
        self._asked, self._asked_until = message_id, now + ANSWER_WITHIN_S

    def answered(self, answer: PeerClusterSettingsResponse) -> Actions:
        """Adopt a newer answer to our question; anything else is ignored."""
        if answer.message_id != self._asked:
            return []
        self._asked = None
        if not self.version < answer.version <= MAX_NUMBER:
            return []
        self.version = int(answer.version)
        ttl = answer.settings.agent_token_ttl_ms
        if ttl is None or not 0 < ttl <= MAX_NUMBER:
            return []
        text = "Pulled cluster settings from leader; worker-spawned agents now use this TTL"
        fields = {"version": self.version, "agentTokenTtlMs": int(ttl)}
        return [
            Note("info", text, fields),
            Tell("pool", SettingsChanged(agent_token_ttl_ms=int(ttl))),
        ]
