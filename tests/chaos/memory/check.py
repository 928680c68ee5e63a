"""The invariants, judged at the end of a schedule by what is in the coordinators' databases."""

import json
import os
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from kici.contracts.states import HELD_ENDED
from tests.chaos.memory.world import MAX_AGENTS, SECRET

_GAP = re.compile(r"^\[.*?\b(\d+) (?:log )?lines")
#: Ends that nobody's agent reported: the tail of the log went with whoever died, and the
#: reason of the end says so.
_MADE = re.compile(
    r"agent lost|worker (lost|restarted)|moved elsewhere|deadline|did not stop in time|"
    r"did not report|drain time is over|after the job was cancelled|Cancelled|chaos|"
    r"re-dispatch|attempts|no agent|could not be started|nobody took|cancelled"
)


def check(world: Any) -> None:
    """Write every violation into the world's history."""
    for one in world.coordinators:
        for row in one.service.store.read("SELECT job_id, run_id, state, reason FROM jobs"):
            _check_job(world, one, dict(row))
    for (name, job_id), states in world.history.terminals.items():
        if len(set(states)) > 1:
            world.history.violated(f"{name}: two different ends of {job_id[:8]}: {states}")
    _check_rest(world)
    _check_secrets(world)


def idle(world: Any) -> str:
    """Empty when nothing is left to do; else what."""
    for one in world.coordinators:
        if not one.up or one.service is None:
            return f"{one.name} is down"
        jobs = one.service.dispatcher.placement.jobs.values()
        if any(not _waits_for_others(job) for job in jobs):
            return f"{one.name} has jobs that have not ended"
        if not one.service.registry.connected():
            return f"{one.name} has no worker"
    pool, peer = world.mains.get("pool"), world.mains.get("peer")
    if len(pool._core.board.jobs):
        return "the pool holds jobs"
    if peer._outbox.keys(is_open=True) or peer._outbox.keys(is_open=False):
        return "the outbox holds records"
    warm = world.config.scalers.scalers[0].warm_pool
    if len(world.agents) > (warm.size if warm.enabled else 0):
        return f"agents are left: {sorted(world.agents)}"
    if any(not flow.outflow.is_empty() for flow in peer._coordinators.values()):
        return "frames are left in the peer"
    return ""


def _waits_for_others(job: Any) -> bool:
    """Our one worker may have had it and must not get it again (C38); it says so and ends
    after its hour."""
    return job.state == "queued" and "worker-1" in job.burned


def _check_job(world: Any, one: Any, row: dict[str, Any]) -> None:
    job_id, violated = row["job_id"], world.history.violated
    executions = world.history.executions.get(job_id, [])
    held = one.service.dispatcher.placement.jobs.get(job_id)
    if held is not None and _waits_for_others(held):
        return
    if row["state"] not in HELD_ENDED:
        violated(f"job {job_id[:8]} is {row['state']} for ever")
    reported = {execution.end for execution in executions if execution.end}
    made = bool(_MADE.search(row["reason"] or "")) or len(executions) != 1
    if row["state"] == "success" and "success" not in reported:
        violated(f"job {job_id[:8]} succeeded, its agent said {reported}")
    if not made and len(executions) == 1 and executions[0].end != row["state"]:
        said = f"its agent said {executions[0].end}"
        violated(f"job {job_id[:8]} is {row['state']} ({row['reason']}), {said}")
    _check_log(world, one, job_id, executions, made)


def _check_log(world: Any, one: Any, job_id: str, executions: list[Any], made: bool) -> None:
    """Each line at most once, in order; what is missing is counted in the log."""
    violated, short = world.history.violated, job_id[:8]
    got: dict[tuple[str, int], list[int]] = defaultdict(list)
    n_told = 0
    for chunk in one.service.store.read(
        "SELECT lines FROM log_chunks WHERE job_id = ? ORDER BY number", job_id
    ):
        for line in json.loads(chunk["lines"]):
            gap = _GAP.match(line["text"])
            if gap:
                n_told += int(gap[1])
                continue
            agent, step, number = line["text"].split()[:3]
            got[agent, int(step)].append(int(number))
    # Where nobody counts lines, a process that dies or a database that refuses takes lines
    # with it and nobody knows; and an agent says to a new pool what it cannot know arrived.
    happened = world.history.faults
    blind = world.foreign and any(
        kind.startswith(("kill", "pause", "database")) for kind in happened
    )
    n_got = 0
    for (agent, step), numbers in got.items():
        n_got += len(numbers)
        if blind:
            continue
        if len(set(numbers)) != len(numbers):
            violated(f"log of {short}: lines of {agent} step {step} arrived twice")
        if numbers != sorted(numbers):
            violated(f"log of {short}: lines of {agent} step {step} are out of order")
    n_missing = sum(execution.n_lines for execution in executions) - n_got
    if sum(bool(execution.n_lines) for execution in executions) > 1:
        return  # the lines of two agents share their numbers; only order can be judged
    if made:
        # Up to the last line that arrived everything must be there or be counted.
        n_missing = sum(max(numbers) + 1 - len(set(numbers)) for numbers in got.values() if numbers)
    if n_missing > n_told and not blind:
        violated(f"log of {short}: {n_missing} lines are missing, {n_told} are said to be")


def _check_rest(world: Any) -> None:
    left = idle(world)
    if left:
        world.history.violated(f"not settled: {left}")
    if world.history.most_agents > MAX_AGENTS:
        world.history.violated(f"{world.history.most_agents} agents at once")


def _check_secrets(world: Any) -> None:
    """The payload key seals what the coordinator keeps; nothing else may hold a secret."""
    for folder, _, names in os.walk(world.dir):
        for name in names:
            if SECRET.encode() in Path(folder, name).read_bytes():
                world.history.violated(f"secret in {name}")
