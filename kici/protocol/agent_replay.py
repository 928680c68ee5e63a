"""What an agent says first after it was away: a marker, and the gaps in its logs (agent spec
1.12, A97, A105)."""

from collections.abc import Callable, Iterator

from kici.contracts.wire import Number, Wire
from kici.contracts.wire.agent.jobs import LogChunk
from kici.contracts.wire.agent.session import AgentLog
from kici.protocol.agent_outbox import AgentOutbox


def announcements(
    outbox: AgentOutbox,
    agent_id: str,
    *,
    away_s: float,
    wall_ms: Callable[[], Number],
    new_id: Callable[[], str],
) -> Iterator[Wire]:
    """The messages that go before the kept frames; empty when nothing was kept or lost."""
    if not len(outbox) and not outbox.gaps:
        return
    n_dropped = sum(lost.n_lines for lost in outbox.gaps.values())
    dropped = f" {n_dropped} log lines dropped due to buffer overflow." if n_dropped else ""
    text = (
        f"--- Orchestrator offline for {away_s:.0f}s. Replaying {len(outbox)} buffered events "
        f"and {outbox.n_lines} buffered log lines.{dropped} ---"
    )
    yield AgentLog(message_id=new_id(), agent_id=agent_id, lines=(text,), timestamp=wall_ms())
    for gap, lost in outbox.gaps.items():
        yield LogChunk(
            message_id=new_id(),
            run_id=gap.run_id,
            job_id=gap.job_id,
            step_index=gap.step_index,
            lines=(f"[{lost.n_lines} lines dropped due to backpressure]",),
            timestamp=wall_ms(),
            first_line=lost.first_line,
            n_covered=lost.n_lines,
        )
