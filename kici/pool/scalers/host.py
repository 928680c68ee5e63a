"""The bare-metal backend: agents as processes of this machine (scaler spec 4, S114-S121)."""

import logging
import os
import signal
import time
from collections.abc import Sequence

import gevent
from gevent import subprocess

from kici.config.model import Scaler
from kici.pool.scalers.base import (
    KILL_S,
    BackendEvent,
    CleaningBudget,
    EventKind,
    FoundAgent,
    Held,
    LaunchSpec,
    Report,
    nobody,
)
from kici.pool.scalers.host_agent import HostAgent, changed, how_it_ended, identify
from kici.pool.scalers.host_clearing import HostLeftovers, clear_away
from kici.pool.scalers.host_prepare import prepare
from kici.pool.scalers.host_record import AgentDirectory, AgentRecord, records
from kici.pool.scalers.host_start import find_binary
from kici.shell import cgroup, processes
from kici.shell.host import is_linux

log = logging.getLogger("kici.pool.host")
#: How often the size of an agent's output is looked at.
_OUTPUT_CHECK_S = 30.0
#: A record without a pid may be of a process that the former worker had just forked when it
#: died, and that does not show its mark yet.
_START_S = 30.0


class HostBackend:
    """Owns: the agents that one scaler started here. Told by: the pool's core.

    ``cgroups`` None asks the machine; tests pass their own base.
    """

    on_local_host = True

    def __init__(
        self,
        scaler: Scaler,
        *,
        owner: str,
        state_dir: str,
        report: Report,
        held: Held = nobody,
        cgroups: cgroup.CgroupBase | None = None,
    ) -> None:
        self._scaler, self._owner, self._report = scaler, owner, report
        self._held = held
        self._state_dir = os.path.join(state_dir, "agents")
        self._agents: dict[str, HostAgent] = {}
        self._leftovers = HostLeftovers(self._state_dir, owner)
        self._cgroups = cgroups
        if cgroups is None and is_linux():
            self._cgroups = cgroup.delegated_base()

    def health(self) -> str:
        """A reason when no label set of this scaler could be started."""
        reasons = [find_binary(one.binary_path, os.environ) for one in self._scaler.label_sets]
        return reasons[0] if reasons and all(reasons) else ""

    def launch(self, spec: LaunchSpec) -> None:
        record = AgentRecord(
            agent_id=spec.agent_id,
            scaler=spec.scaler.name,
            owner=self._owner,
            labels=spec.label_set.labels,
            boot=processes.boot_id(),
            job_id=spec.job_id,
            run_id=spec.run_id,
        )
        agent = HostAgent(record, AgentDirectory(self._state_dir, spec.agent_id))
        self._agents[spec.agent_id] = agent
        agent.watcher = gevent.spawn(self._start_and_watch, agent, spec)

    def reap(self, agent_id: str, grace_s: float) -> None:
        agent = self._agents.get(agent_id)
        if agent is None or agent.grace_s is not None:
            return
        agent.grace_s = grace_s
        agent.killer = gevent.spawn(self._end, agent, grace_s)

    def found(self) -> Sequence[FoundAgent]:
        """Living agents that a former process of this worker started for this scaler. What
        is left of dead ones is cleared away on the side."""
        living: list[FoundAgent] = []
        self._leftovers.clear_nameless()
        for record in records(self._state_dir):
            known = record.agent_id in self._agents or self._held(record.agent_id)
            if known or record.owner != self._owner or record.scaler != self._scaler.name:
                continue
            record, leader = identify(record)
            if leader is None:
                if record.pid or self._leftovers.age_s(record) > _START_S:
                    self._leftovers.clear_later(record)
                continue
            living.append(
                FoundAgent(
                    agent_id=record.agent_id,
                    job_id=record.job_id,
                    run_id=record.run_id,
                    label_set_labels=record.labels,
                )
            )
        return living

    def adopt(self, agent_id: str) -> None:
        if agent_id in self._agents:
            return
        for record in records(self._state_dir):
            if record.agent_id != agent_id or record.owner != self._owner:
                continue
            record, leader = identify(record)
            agent = HostAgent(record, AgentDirectory(self._state_dir, agent_id))
            agent.leader = leader
            self._agents[agent_id] = agent
            agent.watcher = gevent.spawn(self._watch_adopted, agent)
            return
        self._report(BackendEvent(agent_id=agent_id, kind=EventKind.EXITED, detail="it is gone"))

    def cleans(self) -> str:
        return self._state_dir

    def clean(self, budget: CleaningBudget) -> None:
        self._leftovers.clean(budget)

    def close(self) -> None:
        greenlets = [
            one for agent in self._agents.values() for one in (agent.watcher, agent.killer)
        ]
        gevent.killall([one for one in greenlets if one is not None], timeout=1.0)
        self._agents.clear()

    # --- one agent's life ------------------------------------------------------------

    def _start_and_watch(self, agent: HostAgent, spec: LaunchSpec) -> None:
        try:
            process, holder = self._start(agent, spec)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            clear_away(agent)
            text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self._finish(agent, EventKind.FAILED, text)
            return
        self._tell(agent, EventKind.STARTED, f"pid {process.pid}, {holder}")
        while True:
            try:
                code = process.wait(_OUTPUT_CHECK_S)
                break
            except subprocess.TimeoutExpired:
                agent.directory.shorten()
        self._ended(agent, how_it_ended(code))

    def _start(self, agent: HostAgent, spec: LaunchSpec) -> tuple[subprocess.Popen, str]:
        reason = find_binary(spec.label_set.binary_path, os.environ)
        if reason:
            raise ValueError(reason)
        if agent.grace_s is not None:
            raise ValueError("ended before its start")
        directory = agent.directory
        directory.make()
        command, environment, group, holder = prepare(
            spec, agent.directory, self._owner, self._cgroups
        )
        agent.record = changed(agent.record, cgroup=group)
        # Before the fork: a worker that dies in between still finds it by its mark.
        directory.write(agent.record)
        output = directory.open_output()
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=directory.path,
                env=environment,
                close_fds=True,
                start_new_session=True,
                preexec_fn=(lambda: cgroup.enter(group)) if group else None,
            )
        finally:
            os.close(output)
        agent.leader = processes.look(process.pid)
        started = agent.leader.started if agent.leader else ""
        agent.record = changed(agent.record, pid=process.pid, started=started)
        directory.write(agent.record)
        if agent.grace_s is not None:
            # Ordered since the fork, when nobody could find it.
            agent.killer = gevent.spawn(self._end, agent, agent.grace_s)
        return process, holder

    def _watch_adopted(self, agent: HostAgent) -> None:
        if agent.leader is not None:
            while not processes.wait_gone(agent.leader, _OUTPUT_CHECK_S):
                agent.directory.shorten()
        self._ended(agent, "ended (not our child: exit code unknown)")

    def _ended(self, agent: HostAgent, how: str) -> None:
        """The leader is gone; so is everything else before anybody hears of it."""
        tail = agent.directory.tail()
        rest = clear_away(agent)
        if rest:
            how += f"; {rest} of its processes could not be ended"
        self._finish(agent, EventKind.EXITED, f"{how}\n{tail}".strip())

    def _end(self, agent: HostAgent, grace_s: float) -> None:
        """TERM to the group, then KILL to all that the agent ever started (S118)."""
        members = agent.members()
        if agent.leader is not None and processes.alive(agent.leader):
            try:
                os.killpg(agent.leader.pid, signal.SIGTERM)
            except (ProcessLookupError, PermissionError):
                log.debug("Agent %s is gone already", agent.record.agent_id)
        deadline = time.monotonic() + grace_s
        leader = agent.leader
        while leader is not None and time.monotonic() < deadline:
            if processes.wait_gone(leader, min(0.2, grace_s)):
                break
            members = agent.members()
        if members:
            processes.end_all(agent.members, grace_s=0.0, kill_s=KILL_S)

    def _finish(self, agent: HostAgent, kind: EventKind, detail: str) -> None:
        self._agents.pop(agent.record.agent_id, None)
        self._tell(agent, kind, detail)

    def _tell(self, agent: HostAgent, kind: EventKind, detail: str) -> None:
        self._report(BackendEvent(agent_id=agent.record.agent_id, kind=kind, detail=detail))
