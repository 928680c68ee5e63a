"""One agent of the bare-metal backend: its process, all that it started, and its record."""

import signal

import gevent

from kici.pool.scalers.host_record import AgentDirectory, AgentRecord, leader_of
from kici.pool.scalers.host_start import MARK, mark_value
from kici.shell import processes


class HostAgent:
    """Owns: one agent from launch to the moment nothing of it is left."""

    def __init__(self, record: AgentRecord, directory: AgentDirectory) -> None:
        self.record, self.directory = record, directory
        self.leader: processes.Process | None = None
        #: It is to end, within so many seconds.
        self.grace_s: float | None = None
        self.watcher: gevent.Greenlet | None = None
        self.killer: gevent.Greenlet | None = None
        self._known: dict[int, processes.Process] = {}

    def members(self) -> list[processes.Process]:
        """Everything of this agent that runs now. Who was seen once stays known, or the
        child of a dead parent would be lost."""
        # Two greenlets may look at once: each only adds and removes what it has seen.
        for one in list(self._known.values()):
            if not processes.alive(one) and self._known.get(one.pid) is one:
                del self._known[one.pid]
        if self.leader is not None and processes.alive(self.leader):
            self._known[self.leader.pid] = self.leader
        mark = f"{MARK}={mark_value(self.record.owner, self.record.agent_id)}"
        for one in processes.tree(list(self._known), mark=mark, sessions=self._sessions()):
            self._known[one.pid] = one
        return list(self._known.values())

    def _sessions(self) -> list[int]:
        """The agent's session. While it has members the kernel gives its number to nobody
        else; so another process with the leader's pid means that it is gone."""
        record = self.record
        if record.pid <= 0 or record.boot != processes.boot_id():
            return []
        found = processes.look(record.pid)
        return [] if found is not None and found.started != record.started else [record.pid]


def identify(record: AgentRecord) -> tuple[AgentRecord, processes.Process | None]:
    """The record's process; one without a pid is looked for by its mark."""
    leader = leader_of(record)
    if leader is not None or record.pid or record.boot != processes.boot_id():
        return record, leader
    mark = f"{MARK}={mark_value(record.owner, record.agent_id)}"
    found = next((one for one in processes.tree([], mark=mark) if one.pid == one.session), None)
    if found is None:
        return record, None
    return changed(record, pid=found.pid, started=found.started), found


def changed(record: AgentRecord, **changes: object) -> AgentRecord:
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    return AgentRecord(**{**fields, **changes})


def how_it_ended(code: int) -> str:
    """A return code of ``subprocess`` in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
