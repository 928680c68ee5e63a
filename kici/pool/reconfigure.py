"""A reload reaches the core: limits at once, removed scalers retire (scaler spec 1.8 [B]).

Running jobs are never touched. Agents that nobody has a use for any more go: idle ones of a
scaler or label set that is gone, and what a warm pool has too many.
"""

from kici.config.model import LabelSet, ScalerConfig
from kici.contracts.states import AgentState
from kici.pool.agents import Agent
from kici.pool.board import Board
from kici.pool.scaling import ON_THE_WAY, Target
from kici.pool.staff import let_go, stop
from kici.pool.supply import n_warm


def reconfigured(board: Board, scalers: ScalerConfig, now: float) -> None:
    made_from = {agent.agent_id: _label_set(board, agent) for agent in board.agents}
    board.scaling.configure(scalers)
    for agent in board.agents:
        _find_again(board, agent, made_from[agent.agent_id])
        if _unwanted(agent) and board.scaling.target(agent.scaler, agent.label_set) is None:
            let_go(board, agent, now, "its scaler or label set was removed")
    for target in board.scaling.targets():
        _shrink(board, target, now)
    board.capacity_dirty = board.changed = True


def _label_set(board: Board, agent: Agent) -> LabelSet | None:
    target = board.scaling.target(agent.scaler, agent.label_set)
    return target.label_set if target is not None else None


def _find_again(board: Board, agent: Agent, made_from: LabelSet | None) -> None:
    """Label sets are known by their number, which a reload may have changed. One that was
    changed itself is another: the agent was not made from it."""
    if made_from is None:
        return
    agent.label_set = -1
    for target in board.scaling.targets():
        if target.scaler.name == agent.scaler and target.label_set == made_from:
            agent.label_set = target.index
            return


def _unwanted(agent: Agent) -> bool:
    """Ours, with no job now or promised; one that has not said what it runs may have one."""
    return (
        agent.scaler is not None
        and agent.state in (*ON_THE_WAY, AgentState.IDLE)
        and agent.bound is None
        and not agent.found_for[1]
        and not agent.unheard
        and not agent.active
    )


def _shrink(board: Board, target: Target, now: float) -> None:
    """The surplus of a warm pool that became smaller goes, the oldest first (7.2 step 7)."""
    pool = target.scaler.warm_pool
    surplus = n_warm(board, target) - (pool.size if pool.enabled else 0)
    mine = [
        agent
        for agent in board.agents
        if agent.warm and not agent.used and _unwanted(agent) and _is_of(agent, target)
    ]
    for agent in sorted(mine, key=lambda one: one.since)[: max(0, surplus)]:
        board.counts.warm_reaped[target.scaler.name] += 1
        stop(board, agent, now, "the warm pool became smaller")


def _is_of(agent: Agent, target: Target) -> bool:
    return (agent.scaler, agent.label_set) == target.key
