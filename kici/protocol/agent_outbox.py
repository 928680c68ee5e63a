"""What an agent has said and not yet seen delivered (agent spec 1.12, A90, A97).

The agent link has no application receipt. A WebSocket pong is one: frames are handled in
order, so the pong to a ping sent after a frame proves that the frame was read.
"""

from collections import deque

import msgspec

#: Log text kept while the worker is away; the oldest goes first beyond it. About 80,000
#: lines of 100 bytes, and the most that an idle-sized agent should ever hold.
MAX_LOG_BYTES = 8 * 2**20
#: Unconfirmed text beyond which log readers wait while the link is up.
HIGH_WATER_BYTES = 4 * 2**20


class Gap(msgspec.Struct, frozen=True):
    """Lines of one step's log that were given up."""

    run_id: str
    job_id: str
    step_index: int


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One frame. ``gap`` is set for logs, which may be dropped; a state never is."""

    seq: int
    text: str
    n_lines: int = 0
    gap: Gap | None = None
    ends_job: tuple[str, str] | None = None
    first_line: int = 0


class Lost(msgspec.Struct):
    """Given up of one step's log: always a run of numbers, the oldest go first."""

    first_line: int
    n_lines: int = 0


class AgentOutbox:
    """Owns: unconfirmed frames in the order they were said. Told by: ``AgentClient``."""

    def __init__(self) -> None:
        self._kept: deque[Kept] = deque()
        self._next_seq = 1
        self._log_bytes = 0
        self._covered = 0
        self.ping_in_flight = False
        self.gaps: dict[Gap, Lost] = {}

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def n_lines(self) -> int:
        return sum(kept.n_lines for kept in self._kept)

    @property
    def congested(self) -> bool:
        return self._log_bytes > HIGH_WATER_BYTES

    def keep(
        self,
        text: str,
        *,
        n_lines: int = 0,
        gap: Gap | None = None,
        ends_job: tuple[str, str] | None = None,
        first_line: int = 0,
    ) -> None:
        """Append one frame; the oldest logs are dropped and counted beyond the bound."""
        self._kept.append(
            Kept(
                seq=self._next_seq,
                text=text,
                n_lines=n_lines,
                gap=gap,
                ends_job=ends_job,
                first_line=first_line,
            )
        )
        self._next_seq += 1
        if gap is not None:
            self._log_bytes += len(text)

    def shed(self) -> None:
        """Drop the oldest logs beyond ``MAX_LOG_BYTES`` (the link is down)."""
        if self._log_bytes <= MAX_LOG_BYTES:
            return
        states: list[Kept] = []
        while self._kept and self._log_bytes > MAX_LOG_BYTES:
            oldest = self._kept.popleft()
            if oldest.gap is None:
                states.append(oldest)
                continue
            self._log_bytes -= len(oldest.text)
            lost = self.gaps.setdefault(oldest.gap, Lost(oldest.first_line))
            lost.n_lines += oldest.n_lines
        self._kept.extendleft(reversed(states))

    def unconfirmed(self) -> list[str]:
        """Everything to say again on a new connection, in order."""
        return [kept.text for kept in self._kept]

    def jobs_ended(self) -> list[tuple[str, str]]:
        """Jobs whose terminal status is not confirmed, as (run id, job id)."""
        return [kept.ends_job for kept in self._kept if kept.ends_job is not None]

    def pinged(self) -> None:
        """A ping was sent behind all that is kept now; one at a time, or a pong would be
        taken for the answer to a later ping."""
        self.ping_in_flight = True
        self._covered = self._next_seq - 1

    def ponged(self) -> dict[tuple[str, str], str]:
        """Forget what the last ping covered; returns the jobs whose end is now known, with
        the frames that told it."""
        ended: dict[tuple[str, str], str] = {}
        while self._kept and self._kept[0].seq <= self._covered:
            kept = self._kept.popleft()
            if kept.gap is not None:
                self._log_bytes -= len(kept.text)
            if kept.ends_job is not None:
                ended[kept.ends_job] = kept.text
        self.lost()
        return ended

    def lost(self) -> None:
        """No ping is under way: the connection is gone, or it was answered."""
        self.ping_in_flight = False
        self._covered = 0
