"""The heart of the pool: one object, events in, actions out."""

from collections.abc import Callable

from kici.config.model import Config
from kici.contracts.link import Message
from kici.contracts.link.jobs import (
    JobCancel,
    JobOffered,
    JobStored,
    LogCredit,
    OutboxState,
)
from kici.contracts.link.lifecycle import (
    DrainCut,
    DrainDone,
    DrainState,
    HandoverReady,
    Leave,
    SnapshotRequest,
)
from kici.contracts.link.views import LogWatch
from kici.contracts.states import JobState
from kici.contracts.wire.agent.jobs import LogChunk
from kici.pool import admission, arrival, conversation, launches, reading, supply, timers
from kici.pool.board import Board
from kici.pool.capacity import CAPACITY_EVERY_S, agent_view, capacity, job_view
from kici.pool.events import (
    AgentLost,
    AgentRegistered,
    AgentSaid,
    AgentsFound,
    AgentsSought,
    BackendReported,
    Event,
    HealthChanged,
    LedgerRefused,
    MachineRead,
    PeerBooted,
    ScalersChanged,
    SendFailed,
)
from kici.pool.guards import Reading
from kici.pool.reconfigure import reconfigured
from kici.pool.staff import close, stop
from kici.protocol.machine import Actions


class PoolCore:
    """Owns: the board. Told by: the shell, one event at a time.

    ``handle`` takes an ``Event`` or a link message and the monotonic time and returns what
    to do, in order. ``deadline`` is when it wants a ``Tick``, None for never. It performs
    no input or output and raises only ``LocalError``, for bugs of ours.
    """

    def __init__(
        self,
        config: Config,
        *,
        wall: Callable[[], float],
        new_id: Callable[[], str],
        outsiders: bool = True,
        boot_id: str = "",
    ) -> None:
        self.board = Board(config, wall=wall, new_id=new_id, outsiders=outsiders, boot_id=boot_id)
        self.deadline: float | None = None
        self._capacity_at = float("-inf")

    @property
    def n_launched(self) -> int:
        """Agents of scalers that still exist."""
        return sum(agent.scaler is not None for agent in self.board.agents)

    def start(self, now: float) -> Actions:
        """Begin: publish what there is, fill warm pools, wait for open records."""
        self.board.began_at = now
        self.board.changed = True
        return self._settle(now)

    def handle(self, event: Event | Message, now: float) -> Actions:
        if isinstance(event, AgentSaid) and isinstance(event.message, LogChunk):
            # The hot path places nothing and moves no deadline but held reports'.
            conversation.said(self.board, event.connection_id, event.message, now)
            return self._take()
        self._react(event, now)
        return self._settle(now)

    def _react(self, event: Event | Message, now: float) -> None:
        board = self.board
        match event:
            case JobOffered():
                admission.offered(board, event, now)
            case JobCancel():
                admission.cancelled(board, event, now)
            case JobStored():
                admission.stored(board, event, now)
            case OutboxState():
                admission.outbox_told(board, event, now)
            case LogCredit(n_bytes=n_bytes):
                board.outflow.grant(n_bytes)
                reading.resume_all(board)
            case AgentRegistered():
                arrival.registered(board, event, now)
            case AgentSaid(connection_id, message):
                conversation.said(board, connection_id, message, now)
            case AgentLost(connection_id, reason):
                arrival.lost(board, connection_id, reason, now)
            case SendFailed(connection_id):
                arrival.lost(board, connection_id, "the socket is no longer open", now)
            case BackendReported(report):
                launches.backend_told(board, report, now)
            case LedgerRefused():
                launches.ledger_refused(board, event, now)
            case AgentsSought(scalers, complete):
                board.scaling.seek(scalers, now, complete=complete)
            case AgentsFound():
                board.scaling.sought(event.scaler, certain=event.certain)
                launches.found(board, event, now)
            case HealthChanged(scaler, reason):
                board.scaling.health_changed(scaler, reason)
                board.capacity_dirty = board.changed = True
            case ScalersChanged(scalers):
                reconfigured(board, scalers, now)
            case MachineRead(machine):
                self._machine_read(machine)
            case _:
                self._govern(event, now)

    def _govern(self, event: Event | Message, now: float) -> None:
        """The supervisor's and the readers' messages."""
        board = self.board
        match event:
            case DrainState(draining=draining, stopping=stopping, handover=handover):
                board.draining, board.stopping = draining, stopping
                board.handing_over = handover
                board.drain_rev = event.rev
                board.drain_said_at = now if stopping else None
                board.drained_told = False
                board.capacity_dirty = board.changed = True
            case DrainCut(reason=reason):
                admission.drain_cut(board, reason, now)
            case Leave():
                board.draining = board.stopping = True
                for agent in board.agents:
                    close(board, agent, 1001, "Worker is stopping")
                    stop(board, agent, now, "the worker stops")
            case PeerBooted():
                board.outflow.restart()
                self._resend(now)
            case SnapshotRequest(reader=reader):
                self._snapshot(reader, now)
            case LogWatch(job_ids=job_ids):
                board.watched = frozenset(job_ids)

    def _machine_read(self, reading: Reading) -> None:
        board, before = self.board, self.board.guards.reason
        if board.guards.look(reading):
            reason = board.guards.reason
            if reason:
                board.note("warning", "Taking no jobs, the machine is not fit", reason=reason)
            else:
                board.note("info", "Taking jobs again, the machine is fit", was=before)
        board.capacity_dirty |= board.guards.reason != before
        self._tell_counts()

    def _tell_counts(self) -> None:
        board = self.board
        if board.counts.grew():
            board.tell("web", board.counts.view(board.next_rev()))

    def _resend(self, now: float) -> None:
        for job in self.board.jobs:
            if job.state is JobState.FINISHED and job.held_until is None:
                timers.resend(self.board, job, now)

    def _snapshot(self, reader: str, now: float) -> None:
        board = self.board
        if reader == "peer":
            self._resend(now)
        if reader == "supervisor":
            board.drained_told = False
        if reader == "web":
            board.counts.told = None
            self._tell_counts()
            board.dirty_jobs |= {job.key: job for job in board.jobs}
            board.dirty_agents |= {agent.agent_id: agent for agent in board.agents}
        board.capacity_dirty = True
        self._capacity_at = float("-inf")

    def _settle(self, now: float) -> Actions:
        """Place what can be placed, publish what changed, set the next deadline."""
        board = self.board
        timers.expire(board, now)
        # Placing and expiring can free more; each round consumes something, so it ends.
        for _ in range(1 + len(board.jobs) + len(board.agents)):
            board.changed = False
            supply.place(board, now)
            if not board.changed:
                break
        self._publish(now)
        upcoming = list(timers.deadlines(board, now))
        if board.capacity_dirty:
            upcoming.append(self._capacity_at + CAPACITY_EVERY_S)
        soonest = min(upcoming, default=float("inf"))
        self.deadline = soonest if soonest < float("inf") else None
        return self._take()

    def _publish(self, now: float) -> None:
        board = self.board
        for job in board.dirty_jobs.values():
            board.tell("web", job_view(board, job, now))
        for agent in board.dirty_agents.values():
            board.tell("web", agent_view(board, agent))
        board.dirty_jobs.clear()
        board.dirty_agents.clear()
        if board.capacity_dirty and now >= self._capacity_at + CAPACITY_EVERY_S:
            board.capacity_dirty = False
            self._capacity_at = now
            told = capacity(board)
            board.tell("peer", told)
            board.tell("web", told)
        # A new process does not know what is held until it has heard the open records.
        if board.draining and not board.drained_told and board.outbox_seen and not len(board.jobs):
            board.drained_told = True
            board.tell("supervisor", DrainDone(rev=board.drain_rev))
        if board.handing_over and board.outbox_seen and not board.jobs.unplaced():
            board.handing_over = False
            board.tell("supervisor", HandoverReady(rev=board.next_rev()))

    def _take(self) -> Actions:
        actions, self.board.actions = self.board.actions, []
        return actions
