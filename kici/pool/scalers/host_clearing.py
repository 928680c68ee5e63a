"""What dead agents of this machine left behind goes away: processes, groups, directories."""

import logging
import os
import time

import gevent

from kici.pool.scalers.base import KILL_S, CleaningBudget
from kici.pool.scalers.host_agent import HostAgent, identify
from kici.pool.scalers.host_record import AgentDirectory, AgentRecord, nameless, records
from kici.shell import cgroup, processes
from kici.shell.remove_tree import remove_tree

log = logging.getLogger("kici.pool.host")
#: Directories cleared away at one look; the next look goes on. A full disk of them must not
#: hold up what lives.
MAX_CLEARED = 20
#: A directory without a record is left alone for this long.
NAMELESS_S = 3600.0
_DAY_S = 86400.0


def clear_away(agent: HostAgent) -> int:
    """End what is left, delete the files; returns how many processes would not die."""
    survivors = processes.end_all(agent.members, grace_s=0.0, kill_s=KILL_S)
    group = agent.record.cgroup
    if group and os.path.isdir(group) and not cgroup.kill(group):
        log.warning("Control group %s could not be emptied", group)
    if not survivors and not remove_tree(agent.directory.path):
        log.warning("Directory %s could not be deleted", agent.directory.path)
    return len(survivors)


class HostLeftovers:
    """Owns: which directories are being cleared away. Told by: the backend."""

    def __init__(self, state_dir: str, owner: str) -> None:
        self._state_dir, self._owner = state_dir, owner
        self._clearing: set[str] = set()

    def age_s(self, record: AgentRecord) -> float:
        """Seconds since the agent's directory changed; 0 when nobody knows."""
        try:
            return time.time() - os.stat(os.path.join(self._state_dir, record.agent_id)).st_mtime
        except OSError:
            return 0.0

    def clear_nameless(self) -> None:
        for path in nameless(self._state_dir, time.time() - NAMELESS_S)[:MAX_CLEARED]:
            log.info("Deleting %s: no readable record says whose it is", path)
            if not remove_tree(path):
                log.warning("Directory %s could not be deleted", path)

    def clear_later(self, record: AgentRecord) -> None:
        """Clear away after a dead agent of ours, in a greenlet of its own."""
        if record.agent_id in self._clearing or len(self._clearing) >= MAX_CLEARED:
            return
        self._clearing.add(record.agent_id)
        why = "it ended while nobody watched" if record.pid else "it was never started"
        log.info("Deleting what agent %s left behind: %s", record.agent_id, why)
        agent = HostAgent(record, AgentDirectory(self._state_dir, record.agent_id))

        def clear() -> None:
            clear_away(agent)
            self._clearing.discard(record.agent_id)

        gevent.spawn(clear)

    def clean(self, budget: CleaningBudget) -> None:
        """Directories of dead agents of another owner: an instance id that this worker had
        before, because the data directory is ours. Nothing that lives is touched."""
        if not budget.agents_max_age_s:
            return
        foreign = [one for one in records(self._state_dir) if one.owner != self._owner]
        old = [one for one in foreign if self.age_s(one) > budget.agents_max_age_s]
        for record in [one for one in old if self._is_dead(one)][:MAX_CLEARED]:
            log.info(
                "Deleting the directory of dead agent %s", record.agent_id,
                extra={"reason": f"it is of the earlier instance id {record.owner} and "
                       f"{self.age_s(record) / _DAY_S:.1f} days old, "
                       f"KICI_CLEAN_AGENTS_MAX_AGE is {budget.agents_max_age_s:g} s"},
            )  # fmt: skip
            path = AgentDirectory(self._state_dir, record.agent_id).path
            if not remove_tree(path):
                log.warning("Directory %s could not be deleted", path)

    def _is_dead(self, record: AgentRecord) -> bool:
        """No process of it, nor one that it started, as far as the machine tells."""
        found, leader = identify(record)
        if leader is not None:
            return False
        agent = HostAgent(found, AgentDirectory(self._state_dir, record.agent_id))
        group = record.cgroup
        in_group = bool(group) and os.path.isdir(group or "") and cgroup.members(group or "")
        return not agent.members() and not in_group
