"""``python -m tests.chaos.memory --seeds N`` or ``--seed S -v``; exit 1 on a violation."""

import argparse
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import Counter

_ME = [sys.executable, "-m", "tests.chaos.memory"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.memory")
    parser.add_argument("--seeds", type=int, default=1000, help="how many schedules")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--seed", type=int, help="replay one, shrunk if it fails")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--stripe", type=int, help=argparse.SUPPRESS)
    parser.add_argument("-v", "--verbose", action="store_true", help="say what happens")
    options = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets of strings must be that of the run to be replayed.
        os.execve(sys.executable, [*_ME, *sys.argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"})
    if options.seed is not None or options.stripe is not None:
        # From here on this process has a virtual clock.
        from tests.chaos.memory.loop import install

        loop = install()
        from tests.chaos.memory import play

        if options.seed is not None:
            return play.replay(loop, options.seed, verbose=options.verbose)
        return play.stripe(loop, range(options.first, options.first + options.seeds, options.jobs))
    return many(options.first, options.seeds, options.jobs)


def many(first: int, n_seeds: int, n_jobs: int) -> int:
    """Share the seeds out, add the results up."""
    began = time.perf_counter()
    children = [
        subprocess.Popen(
            [*_ME, "--stripe", "1", "--first", str(first + index), "--jobs", str(n_jobs),
             "--seeds", str(n_seeds - index)],
            stdout=subprocess.PIPE, text=True,
        )
        for index in range(min(n_jobs, n_seeds))
    ]  # fmt: skip
    counts: Counter[str] = Counter()
    failed: list[int] = []
    done = 0
    lines: queue.Queue[str | None] = queue.Queue()
    for child in children:
        threading.Thread(target=_read, args=(child, lines), daemon=True).start()
    n_open = len(children)
    while n_open:
        line = lines.get()
        if line is None:
            n_open -= 1
            continue
        result = json.loads(line)
        done += 1
        counts.update(result["counts"])
        if done % 500 == 0:
            print(f"{done} of {n_seeds} schedules", flush=True)
        if result["violations"]:
            failed.append(result["seed"])
            more = len(result["violations"]) - 1
            print(f"seed {failed[-1]}: {result['violations'][0]} (+{more})", flush=True)
    codes = [child.wait() for child in children]
    seconds = time.perf_counter() - began
    print(f"{done} schedules in {seconds:.0f} s ({done / seconds * 60:.0f} a minute)")
    print(", ".join(f"{kind}: {n}" for kind, n in sorted(counts.items())))
    print(f"{len(failed)} schedules with violations")
    if failed:
        print(f"replay: python -m tests.chaos.memory --seed {min(failed)} -v")
    return 1 if failed or any(codes) else 0


def _read(child: "subprocess.Popen[str]", lines: "queue.Queue[str | None]") -> None:
    assert child.stdout is not None
    for line in child.stdout:
        lines.put(line)
    lines.put(None)


if __name__ == "__main__":
    sys.exit(main())
