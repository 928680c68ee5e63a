"""The agent registry: every agent we asked for, found, or that registered."""

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field

from kici.config.model import ResourceSpec
from kici.contracts.link import JobKey
from kici.contracts.states import AGENT_MOVES, AgentState, check_move
from kici.protocol.labels import Requirements, serves


@dataclass(slots=True, kw_only=True)
class Agent:
    """One agent. While it has jobs and no connection it may come back until ``deadline``.

    Each state has its deadline: requested/starting: registered by then; idle: reaped then
    (scaler agents that nobody needs); busy without connection: lost then; stopping: given
    up then. ``jobs`` are ours, ``strangers`` are in-flight jobs nobody knows: both occupy
    slots (A79).
    """

    agent_id: str
    state: AgentState
    since: float
    since_wall: float
    deadline: float | None = None
    connection_id: str | None = None
    labels: tuple[str, ...] = ()
    canonical: frozenset[str] = frozenset()
    gate: frozenset[str] = frozenset()
    max_concurrency: int = 1
    platform: str = "linux"
    arch: str = "x64"
    version: str | None = None
    hostname: str | None = None
    scaler: str | None = None
    label_set: int = -1
    requests: ResourceSpec = ResourceSpec()
    image: str | None = None
    warm: bool = False
    #: The job it was launched for.
    bound: JobKey | None = None
    #: Run and job id it was launched for, when it was found after a restart.
    found_for: tuple[str | None, str | None] = (None, None)
    #: It existed before this process and has not said yet what it runs.
    unheard: bool = False
    #: Single use: it was given a job and gets no other.
    used: bool = False
    draining: bool = False
    jobs: set[JobKey] = field(default_factory=set)
    strangers: set[tuple[str, str]] = field(default_factory=set)
    #: No dispatch before this moment, after a reject.
    rest_until: float = 0.0
    n_rejects: int = 0
    paused: bool = False
    reason: str = ""

    @property
    def active(self) -> int:
        return len(self.jobs) + len(self.strangers)

    def matches(self, need: Requirements) -> bool:
        return serves(need, self.canonical, self.gate)

    def free(self, now: float) -> bool:
        """Whether a dispatch can be sent right now (rules 1 and 7 of agent spec 5.2)."""
        return (
            self.connection_id is not None
            and self.state in (AgentState.IDLE, AgentState.BUSY)
            and self.active < self.max_concurrency
            and not self.draining
            and not (self.scaler is not None and self.used)
            and now >= self.rest_until
        )


class Registry:
    """Owns: the agents by id and by connection. Told by: the core."""

    def __init__(self) -> None:
        self._by_id: dict[str, Agent] = {}
        self._by_connection: dict[str, Agent] = {}
        #: Ids in order, for ``by_id``.
        self._ids: list[str] = []

    def __iter__(self) -> Iterator[Agent]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def by_id(self) -> Iterator[Agent]:
        """The lowest id first; not to be changed meanwhile."""
        return (self._by_id[agent_id] for agent_id in self._ids)

    def add(self, agent: Agent) -> None:
        if agent.agent_id not in self._by_id:
            bisect.insort(self._ids, agent.agent_id)
        self._by_id[agent.agent_id] = agent

    def get(self, agent_id: str | None) -> Agent | None:
        return self._by_id.get(agent_id) if agent_id is not None else None

    def at(self, connection_id: str) -> Agent | None:
        return self._by_connection.get(connection_id)

    def connect(self, agent: Agent, connection_id: str) -> None:
        """Only the newest connection of an agent counts (A17)."""
        self.disconnect(agent)
        agent.connection_id = connection_id
        self._by_connection[connection_id] = agent

    def disconnect(self, agent: Agent) -> None:
        if agent.connection_id is not None:
            self._by_connection.pop(agent.connection_id, None)
            agent.connection_id = None
            agent.paused = False

    def drop(self, agent: Agent) -> None:
        self.disconnect(agent)
        if self._by_id.pop(agent.agent_id, None) is not None:
            del self._ids[bisect.bisect_left(self._ids, agent.agent_id)]

    def of_scaler(self, name: str) -> list[Agent]:
        return [agent for agent in self._by_id.values() if agent.scaler == name]

    def move(self, agent: Agent, state: AgentState) -> None:
        check_move(AGENT_MOVES, f"agent {agent.agent_id}", agent.state, state)
        agent.state = state
