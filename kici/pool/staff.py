"""The verbs of an agent's life that need no job logic: settle, stop, vanish, unbind."""

from kici.contracts.states import AgentState, JobState
from kici.pool.actions import CloseAgent, ReapAgent, ReleaseLedger
from kici.pool.agents import Agent
from kici.pool.board import Board
from kici.pool.jobs import Job
from kici.pool.scalers.base import KILL_S

#: From TERM to KILL when an agent is stopped.
GRACE_S = 10.0
#: A registered scaler agent without a job and not of a warm pool is stopped after this: its
#: job went another way, and every job that waits has been offered to it. The real agent exits
#: by itself after 5 s, or 60 s with a pending dispatch.
IDLE_S = 10.0
#: What the backend may take beyond its own promise before we give the agent up.
_SLACK_S = 15.0

CLOSE_GOING_AWAY = 1001


def settle(board: Board, agent: Agent, now: float) -> None:
    """Bring the state of a registered agent in line with its slots; stop a used one."""
    if agent.state in (AgentState.IDLE, AgentState.BUSY):
        state = AgentState.BUSY if agent.active else AgentState.IDLE
        if state is not agent.state:
            board.agents.move(agent, state)
            agent.since, agent.since_wall = now, board.wall()
            agent.deadline = None
        if state is AgentState.IDLE and agent.deadline is None and agent.scaler is not None:
            agent.deadline = now + _idle_limit(board, agent)
        if state is AgentState.IDLE and agent.connection_id is None:
            let_go(board, agent, now, "its connection is gone")
        elif state is AgentState.IDLE and agent.scaler is not None and agent.used:
            let_go(board, agent, now, "its job has ended")
    board.agent_changed(agent)


def unstored(board: Board, agent_id: str) -> bool:
    """True while the end of one of this agent's jobs is in our memory only."""
    return any(job.state is JobState.FINISHED and job.agent_id == agent_id for job in board.jobs)


def _idle_limit(board: Board, agent: Agent) -> float:
    scaler = board.scaling.scaler(agent.scaler)
    if agent.warm and scaler is not None and scaler.warm_pool.enabled:
        return scaler.warm_pool.idle_timeout_s
    return IDLE_S


def let_go(board: Board, agent: Agent, now: float, reason: str) -> None:
    """``stop`` an agent that has nothing to do, unless it is the only one besides our memory
    who knows the end of its job: once that is stored, ``settle`` comes here again."""
    if agent.scaler is None or not unstored(board, agent.agent_id):
        stop(board, agent, now, reason)


def stop(board: Board, agent: Agent, now: float, reason: str, grace_s: float = GRACE_S) -> None:
    """Make an agent disappear. A static agent is only disconnected."""
    if agent.state in (AgentState.STOPPING, AgentState.GONE):
        return
    agent.reason = reason
    board.agents.move(agent, AgentState.STOPPING)
    agent.since, agent.since_wall = now, board.wall()
    agent.deadline = now + grace_s + KILL_S + _SLACK_S
    board.agent_changed(agent)
    if agent.scaler is None:
        close(board, agent, CLOSE_GOING_AWAY, reason)
        vanish(board, agent, reason)
        return
    board.do(ReapAgent(agent_id=agent.agent_id, scaler=agent.scaler, grace_s=grace_s))


def close(board: Board, agent: Agent, code: int, reason: str) -> None:
    """Close the connection, and forget it: its ``lost`` will find nobody."""
    if agent.connection_id is not None:
        board.do(CloseAgent(agent.connection_id, code, reason))
        board.agents.disconnect(agent)


def vanish(board: Board, agent: Agent, reason: str) -> None:
    """Nothing of the agent is left: its row goes, and with it all reservations."""
    agent.reason = agent.reason or reason
    # A container's network may die before its last packets: the socket would stay half open.
    close(board, agent, CLOSE_GOING_AWAY, reason)
    board.agents.move(agent, AgentState.GONE)
    board.agents.drop(agent)
    board.agent_changed(agent)
    if agent.scaler is not None:
        board.do(ReleaseLedger(agent_id=agent.agent_id, scaler=agent.scaler))
    board.note("info", "Agent disconnected", agent=agent, reason=reason)


def unbind(board: Board, job: Job, keep: Agent | None) -> None:
    """Agents on their way for ``job`` are free for whoever else waits."""
    for agent in board.agents:
        if agent.bound == job.key and agent is not keep:
            agent.bound = None
