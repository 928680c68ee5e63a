"""What ``Offers`` wants done, and the messages it makes (peer spec 5.2)."""

from kici.contracts.link import JobKey
from kici.contracts.link.jobs import JobOffered
from kici.contracts.states import WireJobState
from kici.contracts.wire import encode
from kici.contracts.wire.peer.jobs import JobProgress, JobRerouteAck
from kici.protocol.machine import Action


class Reply(Action, frozen=True):
    """Answer a reroute on the connection of ``owner``, if there is one."""

    owner: str
    ack: JobRerouteAck


class Promise(Action, frozen=True):
    """Make the open record of ``key`` durable; what follows in the list waits for it."""

    key: JobKey


class Conclude(Action, frozen=True):
    """Make the terminal report of ``key`` durable, then ``job.stored``, then send it."""

    key: JobKey
    frame: bytes


class Report(Action, frozen=True):
    """Send the stored terminal report of ``key`` again."""

    key: JobKey


class Stored(Action, frozen=True):
    """Tell the pool that it may let go of ``key``, once no open record says otherwise."""

    key: JobKey


def failed(key: JobKey, error: str, timestamp_ms: int) -> bytes:
    """A terminal ``failed`` report made by us."""
    return encode(
        JobProgress(
            kind="job",
            run_id=key.run_id,
            job_id=key.job_id,
            job_name="",
            step_index=0,
            step_name="",
            state=WireJobState.FAILED,
            timestamp=timestamp_ms,
            data={"error": error},
        )
    )


def offer(key: JobKey, message_id: str, reroute: bytes, pool: str, *, again: bool) -> JobOffered:
    """For the pool of that boot id; ``reroute`` is SECRET, ``again`` means that it was promised
    before."""
    return JobOffered(key=key, message_id=message_id, reroute=reroute, again=again, pool=pool)


def yes(key: JobKey, message_id: str) -> Reply:
    """The job is ours."""
    return Reply(key.owner, JobRerouteAck(message_id=message_id, accepted=True))


def no(key: JobKey, message_id: str, reason: str) -> Reply:
    """It is not: the coordinator looks for another worker."""
    return Reply(key.owner, JobRerouteAck(message_id=message_id, accepted=False, reason=reason))
