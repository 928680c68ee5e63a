"""Log lines from agents through the worker to the coordinator."""

import time

import msgspec

from bench import processes
from bench.agent_end import Agent, line_frames
from bench.work import Work
from bench.worker_end import Rig

#: The shape of the budget: 100-byte lines, 100 of them a chunk.
LINE = "x" * 99 + "\n"
LINES_A_CHUNK = 100
#: Bytes an agent may have unsent before it waits for its socket.
_UNSENT_BYTES = 256 * 1024


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """One measured flow of lines. ``cpu`` is seconds by process name."""

    n_sent: int
    n_arrived: int
    seconds: float
    cpu: dict[str, float]

    @property
    def lines_per_cpu_s(self) -> float:
        return self.n_arrived / sum(self.cpu.values())

    @property
    def lines_per_s(self) -> float:
        return self.n_arrived / self.seconds


def flow(rig: Rig, n_agents: int, n_lines: int, *, line: str = LINE) -> Flow:
    """``n_lines`` in all, from ``n_agents`` running jobs at once, all of them awaited."""
    loop, work = rig.loop, Work(rig)
    agents = rig.agents[:n_agents] or rig.add_agents(n_agents)
    started: list[tuple[Agent, str, str]] = []
    for agent in agents:
        agent.automatic = False
        agent.dispatched = lambda run_id, job_id, agent=agent: started.append(
            (agent, run_id, job_id)
        )
        work.offer()
    loop.run(lambda: len(started) == n_agents, "jobs are dispatched")
    frames = []
    for agent, run_id, job_id in started:
        agent.begin(run_id, job_id)
        frames.append((agent, line_frames(run_id, job_id, [line] * LINES_A_CHUNK)))
    loop.rest(0.2)
    before = {pid: processes.usage([pid]) for pid in rig.worker.pids}
    left = {agent.name: n_lines // LINES_A_CHUNK // n_agents for agent in agents}
    n_sent = sum(left.values()) * LINES_A_CHUNK
    began = time.perf_counter()

    def push() -> bool:
        for agent, frame in frames:
            while left[agent.name] and agent.end.unsent < _UNSENT_BYTES:
                left[agent.name] -= 1
                agent.end.send_raw(frame)
        return work.n_lines >= n_sent

    loop.run(push, "all lines arrive", 120)
    seconds = time.perf_counter() - began
    cpu = {
        processes.title(pid): processes.usage([pid]).since(used).cpu_s
        for pid, used in before.items()
    }
    for agent, run_id, job_id in started:
        agent.finish(run_id, job_id)
    loop.run(lambda: work.n_ended >= n_agents, "jobs end")
    return Flow(n_sent=n_sent, n_arrived=work.n_lines, seconds=seconds, cpu=cpu)
