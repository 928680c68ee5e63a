"""``python -m bench [--realtime] [NAME ...]``: measure, print, write ``bench/results.json``.

``--realtime`` (root) runs load and worker before everything else on a machine that others
use: waiting times are then those of an idle machine. Not for benches that fill a core.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from bench import choices, measures, scale, soak, spawn
from bench.report import Report, machine

BENCHES: Mapping[str, Callable[[Report], None]] = {
    "start": measures.start,
    "idle": measures.idle,
    "latency": measures.latency,
    "throughput": measures.throughput,
    "jobs": measures.jobs,
    "card": measures.card,
    "spawn": spawn.spawn,
    "sealing": measures.sealing,
    "agents": scale.agents,
    "workers": scale.workers,
    "memory": measures.memory,
    "choices": choices.compare,
    "soak": soak.soak,
}


def main(names: list[str]) -> int:
    if "--realtime" in names:
        names.remove("--realtime")
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(5))
    unknown = set(names) - set(BENCHES)
    if unknown:
        print(f"no such bench: {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
        return 2
    report = Report()
    print(machine())
    for name in names or BENCHES:
        print(f"--- {name}", flush=True)
        try:
            BENCHES[name](report)
        except (RuntimeError, TimeoutError, ConnectionError, AssertionError) as error:
            report.note(f"{name} failed", str(error)[:500])
    print("\n" + report.table())
    report.write(Path(__file__).with_name("results.json"))
    return 0


sys.exit(main(sys.argv[1:]))
