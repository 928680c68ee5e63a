"""Jobs: peer <-> pool (docs/architecture.md). ``frame`` is always the JSON text of a peer
message, made once by the pool and sealed unread by the peer."""

from kici.contracts.link import JobKey, Message, Row

# --- peer -> pool --------------------------------------------------------------------


class JobOffered(Message, tag="job.offered", frozen=True, kw_only=True):
    """A ``job.reroute`` arrived, or is offered again after a pool restart (``again``).

    Answered by ``job.accepted`` or ``job.declined``. ``reroute`` is its JSON text; SECRET.
    ``pool`` is the boot id of the pool that it is for, as far as the peer knew one: what a pool
    finds in the socket of the one before it was said before that one's last words were heard.
    """

    key: JobKey
    message_id: str
    reroute: bytes
    again: bool = False
    pool: str = ""


class JobCancel(Message, tag="job.cancel", frozen=True, kw_only=True):
    """A coordinator cancels; ``job_id`` None means every job of the run. ``withdrawn``: nobody
    cancels, but the peer refused the offer before the pool answered."""

    owner: str
    run_id: str
    job_id: str | None
    reason: str
    force: bool = False
    withdrawn: bool = False


class JobStored(Message, tag="job.stored", frozen=True, kw_only=True):
    """Receipt for ``job.finished``: the outbox holds it, the pool may drop its row."""

    key: JobKey


class OpenJob(Row, frozen=True, kw_only=True):
    key: JobKey
    accepted_at: float


class OutboxState(Message, tag="outbox.state", frozen=True, kw_only=True):
    """What is promised and not yet concluded; to pool (which adopts or fails each, after
    the grace time) and to web. Sent on ``snapshot.request`` and on change to web. ``pool`` as in
    ``job.offered``."""

    rev: int
    open: tuple[OpenJob, ...]
    n_concluded: int
    n_bytes: int
    oldest_at: float | None
    oldest_result_at: float | None = None
    pool: str = ""


class LogCredit(Message, tag="log.credit", frozen=True, kw_only=True):
    """The peer can take ``n_bytes`` more log bytes; a new boot id starts from zero."""

    n_bytes: int


class TokenRevoked(Message, tag="token.revoked", frozen=True, kw_only=True):
    """``peer.agent-token.revoke``: close agents that used this token."""

    token_id: str


class SettingsChanged(Message, tag="settings.changed", frozen=True, kw_only=True):
    """Cluster settings pulled from a coordinator (peer spec 4.21)."""

    agent_token_ttl_ms: int


# --- pool -> peer --------------------------------------------------------------------


class JobAccepted(Message, tag="job.accepted", frozen=True, kw_only=True):
    """The pool holds the job: peer writes the open record, then sends the ack."""

    key: JobKey
    message_id: str


class JobDeclined(Message, tag="job.declined", frozen=True, kw_only=True):
    """Refused; ``reason`` goes into ``job.reroute.ack``."""

    key: JobKey
    message_id: str
    reason: str


class JobDispatched(Message, tag="job.dispatched", frozen=True, kw_only=True):
    """An agent acknowledged it: the peer may forget the payload it kept for a re-offer."""

    key: JobKey


class JobProgressed(Message, tag="job.progressed", frozen=True, kw_only=True):
    """A step update or a non-terminal job update."""

    key: JobKey
    frame: bytes


class JobLogged(Message, tag="job.logged", frozen=True, kw_only=True):
    """A ``peer.log.chunk``; consumes credit of ``len(frame)``."""

    key: JobKey
    n_lines: int
    frame: bytes


class JobFinished(Message, tag="job.finished", frozen=True, kw_only=True):
    """The terminal update; sent again until ``job.stored``."""

    key: JobKey
    state: str
    frame: bytes


class ScalerReported(Message, tag="scaler.reported", frozen=True, kw_only=True):
    """A ``scaler.event`` about an owned job (P64)."""

    key: JobKey
    frame: bytes
