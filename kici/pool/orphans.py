"""Open records that no agent can have any more (issue "Nothing accepted is lost").

After a start the outbox may name a job that no agent had, or whose agent died with the worker.
Once every backend has said what exists and each of those agents has said what it runs, nobody
is left who could come back with it: it need not wait for the whole grace time.
"""

from kici.contracts.states import JobState
from kici.pool.board import Board

#: Proven for so long: the peer offers again what no agent had, in the same breath as the open
#: records, and an agent says right after its registration what it could not say before.
ORPHAN_AFTER_S = 5.0


def look_for_orphans(board: Board, now: float) -> None:
    """Note since when the unclaimed are orphans; when it is long enough, their time is over."""
    if not board.unclaimed:
        return
    rows = (board.jobs.get(key) for key in board.unclaimed)
    waiting = [
        job
        for job in rows
        if job is not None and job.state is JobState.RECOVERING and job.agent_id is None
    ]
    board.unclaimed = {job.key for job in waiting}
    if not waiting or _may_come_back(board):
        board.orphaned_at = None
        return
    if board.orphaned_at is None:
        board.orphaned_at = now
    if now >= board.orphaned_at + ORPHAN_AFTER_S:
        board.orphaned_at = None
        for job in waiting:
            job.deadline = now


def _may_come_back(board: Board) -> bool:
    """Whether an agent may exist that has not said what it runs."""
    if board.outsiders or not board.outbox_seen or not board.scaling.all_found:
        return True
    return any(agent.unheard for agent in board.agents)
