"""Log bundles of agents: peer <-> pool (peer spec 4.18). Files travel as descriptors of
nameless temporary files, so that nothing is left on disk whoever dies."""

from kici.contracts.link import Message


class LogsRequest(Message, tag="logs.request", frozen=True, kw_only=True):
    """Peer -> pool: gather the log bundles of these agents (None: of all) within
    ``within_s``. Answered by one ``agent.logs`` each and a ``logs.gathered`` at the end."""

    request_id: str
    hours: float
    agent_ids: tuple[str, ...] | None
    within_s: float


class LogsCancel(Message, tag="logs.cancel", frozen=True, kw_only=True):
    """Peer -> pool: nobody wants them any more."""

    request_id: str


class AgentLogs(Message, tag="agent.logs", frozen=True, kw_only=True):
    """Pool -> peer, with one descriptor (a ZIP of ``n_bytes``) when ``status`` is ``ok``.

    ``status`` is a word of the fleet manifest: ok, timeout, error or unreachable.
    """

    request_id: str
    agent_id: str
    status: str
    error: str
    n_bytes: int


class LogsGathered(Message, tag="logs.gathered", frozen=True, kw_only=True):
    """Pool -> peer: no more of this request. ``reason`` says why agents are missing."""

    request_id: str
    reason: str = ""
