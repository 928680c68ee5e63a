"""Who is read: agents are held back without log credit, and while their jobs are unknown."""

from kici.pool.actions import PauseAgent, ResumeAgent
from kici.pool.agents import Agent
from kici.pool.board import Board


def pause(board: Board, agent: Agent) -> None:
    """Stop reading ``agent``: what it says stays with it, and it gets no receipt."""
    if agent.connection_id is not None and not agent.paused:
        agent.paused = True
        board.do(PauseAgent(agent.connection_id))


def pause_writers(board: Board) -> None:
    """No credit: stop reading whoever may write logs."""
    for agent in board.agents:
        if agent.jobs:
            pause(board, agent)


def resume_all(board: Board) -> None:
    """Read on, wherever nothing is in the way any more."""
    for agent in board.agents:
        if not agent.paused or agent.connection_id is None:
            continue
        unknown = agent.strangers and not board.outbox_seen
        if unknown or (board.outflow.stopped and agent.jobs):
            continue
        agent.paused = False
        board.do(ResumeAgent(agent.connection_id))
