"""What really happened, as a perfect observer would write it down."""

import os
from pathlib import Path
from typing import Any

#: Files of the schedules: in memory, where there is such a place.
BASE = Path("/dev/shm" if os.path.isdir("/dev/shm") else os.environ.get("TMPDIR", "/tmp"))


def directory_of(pid: int) -> Path:
    """Where the process ``pid`` plays its schedules."""
    return BASE / f"kici-chaos-{pid}"


class Execution:
    """One run of one job by one agent. ``end``: what the agent reported, None if it never did."""

    def __init__(self, run_id: str, job_id: str, agent_id: str) -> None:
        self.run_id, self.job_id, self.agent_id = run_id, job_id, agent_id
        self.lines: dict[int, list[str]] = {}
        self.end: str | None = None
        self.agent_died = False

    def wrote(self, step: int, lines: tuple[str, ...]) -> None:
        self.lines.setdefault(step, []).extend(lines)

    @property
    def n_lines(self) -> int:
        return sum(map(len, self.lines.values()))


class History:
    """Owns: executions, terminal reports as coordinators heard them, violations, fault counts."""

    def __init__(self) -> None:
        self.executions: dict[str, list[Execution]] = {}
        self.terminals: dict[tuple[str, str], list[str]] = {}
        self.violations: list[str] = []
        self.faults: dict[str, int] = {}
        self.most_agents = 0
        self.log: list[str] = []

    def executes(self, run_id: str, job_id: str, agent_id: str) -> Execution:
        execution = Execution(run_id, job_id, agent_id)
        self.executions.setdefault(job_id, []).append(execution)
        return execution

    def died(self, agent_id: str) -> None:
        for executions in self.executions.values():
            for one in executions:
                if one.agent_id == agent_id and one.end is None:
                    one.agent_died = True

    def heard(self, coordinator: str, report: Any) -> None:
        """A terminal report at a coordinator, applied or not."""
        self.terminals.setdefault((coordinator, report.job_id), []).append(str(report.state))

    def violated(self, what: str) -> None:
        self.violations.append(what)

    def fault(self, kind: str) -> None:
        self.faults[kind] = self.faults.get(kind, 0) + 1
