"""What a process with a virtual clock does: many schedules, or one again and again."""

import gc
import json
from collections.abc import Iterable

from tests.chaos.memory import faults, world
from tests.chaos.memory.loop import VirtualLoop
from tests.chaos.memory.run import run, shrink

world.install()
# Collected between schedules, and then only what the schedule left.
gc.collect()
gc.freeze()
gc.disable()


def stripe(loop: VirtualLoop, seeds: Iterable[int]) -> int:
    """One JSON line a schedule."""
    for seed in seeds:
        history = run(loop, seed, faults.draw(seed))
        counts = {
            **history.faults,
            "= jobs started": len(history.executions),
            "= jobs started twice": sum(len(e) > 1 for e in history.executions.values()),
            "= log lines written": sum(
                one.n_lines for every in history.executions.values() for one in every
            ),
        }
        result = {"seed": seed, "violations": history.violations, "counts": counts}
        print(json.dumps(result), flush=True)
    return 0


def replay(loop: VirtualLoop, seed: int, *, verbose: bool) -> int:
    """Run ``seed``; when it fails, leave out faults while it still does, and show it."""
    schedule = faults.draw(seed)
    history = run(loop, seed, schedule)
    if history.violations:
        schedule = shrink(loop, seed, schedule)
        history = run(loop, seed, schedule)
        print(f"seed {seed} fails with {len(schedule)} faults:")
        for fault in schedule:
            print(f"  {fault.at:8.3f} {fault.kind} a={fault.a:.3f} b={fault.b:.3f} "
                  f"{fault.duration:g} s")  # fmt: skip
    if verbose:
        print("\n".join(history.log))
    print("\n".join(history.violations) or f"seed {seed}: no violation")
    return 1 if history.violations else 0
