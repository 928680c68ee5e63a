"""What became of launches: the backends' news, failures, and what exists already (2.10, 2.11)."""

from kici.config.model import ResourceSpec
from kici.contracts.states import AgentState, JobState
from kici.pool import arrival, progress
from kici.pool.actions import AdoptAgent
from kici.pool.agents import Agent
from kici.pool.board import Board
from kici.pool.events import AgentsFound, LedgerRefused
from kici.pool.jobs import Job
from kici.pool.progress import scaler_event
from kici.pool.scalers.base import BackendEvent, EventKind
from kici.pool.scaling import ON_THE_WAY, Target
from kici.pool.schedule import could_serve
from kici.pool.staff import stop, vanish
from kici.pool.supply import resources_for

#: Failed launches for one job before it fails, when no other agent could serve it: with the
#: back-off that is after 15 s, long before a coordinator's 90 s spawn window ends.
MAX_LAUNCHES = 3


def backend_told(board: Board, report: BackendEvent, now: float) -> None:
    """What a backend says about one agent; news of an unknown one is harmless."""
    detail = report.detail
    agent = board.agents.get(report.agent_id)
    if agent is None:
        return
    on_the_way = agent.state in ON_THE_WAY
    match report.kind:
        case EventKind.PROVISIONING:
            provisioning(board, agent, "scaler.provisioning", detail)
        case EventKind.NETWORK:
            provisioning(board, agent, "scaler.network", detail)
        case EventKind.STARTED:
            started(board, agent, now, detail)
        case EventKind.FAILED if on_the_way:
            launch_failed(board, agent, detail, now, gone=True, blame=not agent.unheard)
        case EventKind.EXITED if on_the_way:
            # One from before a restart says nothing about how we start them.
            text = f"it exited before registering: {detail}"
            launch_failed(board, agent, text, now, gone=True, blame=not agent.unheard)
        case _:
            if agent.warm and not agent.used and agent.state is AgentState.IDLE:
                # Else a pool of agents that leave by themselves respawns without end.
                key = (agent.scaler or "", agent.label_set)
                board.scaling.failed(key, "idle agent exited", now)
            agent.reason = f"exited: {detail}"
            if agent.connection_id is None:
                arrival.ended(board, agent, agent.reason, now)
            else:
                # Its last words may still be in the socket.
                agent.deadline = now + arrival.LAST_WORDS_S


def provisioning(board: Board, agent: Agent, kind: str, detail: str) -> None:
    """A backend's progress, for the job the agent is bound to."""
    job = board.jobs.get(agent.bound) if agent.bound is not None else None
    if job is not None:
        scaler_event(board, job, agent, kind, detail)


def started(board: Board, agent: Agent, now: float, detail: str = "") -> None:
    """It runs, held as ``detail`` says; now it must register (one deadline, 2.10, R)."""
    if agent.state is not AgentState.REQUESTED:
        return
    board.agents.move(agent, AgentState.STARTING)
    agent.since, agent.since_wall = now, board.wall()
    agent.deadline = now + board.settings.spawn_timeout_s
    board.agent_changed(agent)
    text = f"Agent {agent.agent_id} spawned successfully via {agent.scaler}"
    board.note("info", text, agent=agent, detail=detail)
    provisioning(board, agent, "scaler.ready", "agent started")


def launch_failed(
    board: Board, agent: Agent, detail: str, now: float, *, gone: bool, blame: bool = True
) -> None:
    """An agent did not come to register: back off, and try again for its job or fail it."""
    board.note("error", f"Failed to spawn agent via {agent.scaler}", agent=agent, detail=detail)
    if blame:
        board.scaling.failed((agent.scaler or "", agent.label_set), detail, now)
    job = board.jobs.get(agent.bound) if agent.bound is not None else None
    scaler = board.scaling.scaler(agent.scaler)
    if blame:
        backend = scaler.type if scaler is not None else "unknown"
        board.counts.spawn_failures[backend, job is not None] += 1
    agent.bound = None
    if gone:
        vanish(board, agent, detail)
    else:
        stop(board, agent, now, detail, grace_s=0.0)
    if job is not None and job.state is JobState.STARTING:
        _try_again(board, job, agent, detail, now, counts=blame)


def _try_again(
    board: Board, job: Job, agent: Agent, detail: str, now: float, *, counts: bool
) -> None:
    """``scaler.failed`` makes a coordinator of 0.9 move the job elsewhere at once (peer spec
    5.7), so it is only said when we give up; before that the trouble is provisioning."""
    job.n_launches_failed += counts
    over = job.n_launches_failed >= MAX_LAUNCHES or now >= (job.launch_until or now + 1)
    if over and not could_serve(job, board.agents):
        scaler_event(board, job, agent, "scaler.failed", detail)
        error = f"agent could not be started: {detail}"
        progress.finish(board, job, "failed", now, error=error)
        return
    scaler_event(board, job, agent, "scaler.provisioning", f"start failed, trying again: {detail}")
    board.move_job(job, JobState.QUEUED, job.queue_until)


def ledger_refused(board: Board, event: LedgerRefused, now: float) -> None:
    """The machine pool is full (wait for room) or broken: undo the reservation (S62)."""
    agent = board.agents.get(event.agent_id)
    if agent is None or agent.state is not AgentState.REQUESTED:
        return
    key = (agent.scaler or "", agent.label_set)
    launch_failed(board, agent, event.reason, now, gone=True, blame=event.failed)
    if not event.failed:
        board.scaling.rest(key, now)


def found(board: Board, event: AgentsFound, now: float) -> None:
    """Agents from before a restart: they have the grace time to register."""
    for one in event.agents:
        if board.agents.get(one.agent_id) is None:
            target = board.scaling.made_from(event.scaler, one.label_set_labels)
            board.agents.add(
                Agent(
                    agent_id=one.agent_id,
                    state=AgentState.STARTING,
                    since=now,
                    since_wall=board.wall(),
                    deadline=now + board.settings.adopt_grace_s,
                    scaler=event.scaler,
                    labels=tuple(one.label_set_labels),
                    label_set=target.index if target is not None else -1,
                    requests=_requests(board, target),
                    found_for=(one.run_id, one.job_id),
                    unheard=True,
                    reason="found after a restart",
                )
            )
        agent = board.agents.get(one.agent_id)
        assert agent is not None
        if agent.scaler is None:
            # It came back before its backend, of a scaler that is configured no more.
            agent.scaler, agent.used = event.scaler, True
        board.agent_changed(agent)
        board.do(AdoptAgent(agent_id=one.agent_id, scaler=event.scaler))
        board.note("info", "Found agent of an earlier start", agent=agent)


def _requests(board: Board, target: Target | None) -> ResourceSpec:
    """What an agent of an earlier start reserved, as far as the configuration tells."""
    return resources_for(board, target, None)[0] if target is not None else ResourceSpec()
