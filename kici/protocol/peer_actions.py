"""What a worker's peer session is told once, and what it asks its shell to do."""

import msgspec

from kici.protocol.machine import Action

#: A healthy coordinator sends a heartbeat every 30 s (peer spec 1.5, P11).
DEAD_AFTER_S = 90.0
#: From the open socket to the accepted authentication (P12).
HANDSHAKE_TIMEOUT_S = 15.0
HEARTBEAT_INTERVAL_S = 30.0
#: Outbox records are sent again this often (5.3, P55).
REPLAY_INTERVAL_S = 30.0
#: A terminal report without receipt for longer than two replays: the coordinator has
#: forgotten this connection (3.10), so make a new one.
UNRECEIPTED_AFTER_S = 90.0
#: Frames in a row that do not decrypt: the keys differ, and nothing will mend that (4.22).
MAX_UNDECRYPTABLE = 10
#: Changes of the inventory are advertised together after this long (4.4).
CHANGE_DELAY_S = 0.1
#: Protocol versions we announce: 4 only with mutual authentication (6.3).
VERSION = 3
VERSION_MUTUAL = 4
ROLE = "worker"


class PeerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What all peer sessions of a worker have in common."""

    instance_id: str
    software_version: str
    heartbeat_interval_s: float = HEARTBEAT_INTERVAL_S
    replay_interval_s: float = REPLAY_INTERVAL_S


class Authentication(msgspec.Struct, frozen=True, kw_only=True):
    """How to prove who we are, decided by ``peer/credentials.py`` (2.5). SECRET.

    ``mode`` is ``credential`` (the 64-character text) or ``token`` (the whole token).
    """

    mode: str
    secret: str

    def __repr__(self) -> str:
        return f"Authentication({self.mode})"


class Choose(Action, frozen=True):
    """Hello is answered: call ``authenticate`` with the choice, or None when there is none."""


class Joined(Action, frozen=True):
    """Accepted. ``credential`` (SECRET) is set after a join by token and must be kept."""

    coordinator_id: str | None
    coordinator_version: str | None
    credential: str | None
    role: str | None
    #: Ours: log lines may be said again, it drops those that it has.
    counts_lines: bool = False

    def __repr__(self) -> str:
        return f"Joined({self.coordinator_id}, {self.coordinator_version})"


class Refused(Action, frozen=True):
    """The coordinator said no; see 2.5 for what ``reason`` means for the credential."""

    reason: str


class Replay(Action, frozen=True):
    """Send every concluded outbox record of this coordinator now."""


class Offered(Action, frozen=True):
    """A ``job.reroute`` that no rule of the link refuses; ``reroute`` is its text. SECRET."""

    run_id: str
    job_id: str
    message_id: str
    reroute: bytes

    def __repr__(self) -> str:
        return f"Offered({self.run_id}, {self.job_id})"


class Receipted(Action, frozen=True):
    """``job.progress.ack``: the coordinator has the terminal state of this job."""

    run_id: str
    job_id: str
