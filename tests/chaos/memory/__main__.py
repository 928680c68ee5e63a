"""``python -m tests.chaos.memory --seeds N`` or ``--seed S -v``; exit 1 on a violation."""

import argparse
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.chaos.memory.history import directory_of

#: Schedules of one child: what they leave in its memory makes the next ones slower.
_PART = 100
#: Violated schedules after which nobody needs more.
_ENOUGH = 20
_stopping = threading.Event()
_ME = [sys.executable, "-m", "tests.chaos.memory"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.memory")
    parser.add_argument("--seeds", type=int, default=1000, help="how many schedules")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--seed", type=int, help="replay one, shrunk if it fails")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--stripe", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("-v", "--verbose", action="store_true", help="say what happens")
    options = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets of strings must be that of the run to be replayed.
        os.execve(sys.executable, [*_ME, *sys.argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"})
    if options.seed is not None or options.stripe:
        # From here on this process has a virtual clock.
        from tests.chaos.memory.loop import install

        loop = install()
        from tests.chaos.memory import play

        if options.seed is not None:
            return play.replay(loop, options.seed, verbose=options.verbose)
        return play.stripe(loop, range(options.first, options.first + options.seeds))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    return many(options.first, options.seeds, options.jobs)


def many(first: int, n_seeds: int, n_jobs: int) -> int:
    """Share the seeds out, add the results up."""
    began = time.perf_counter()
    children = ThreadPoolExecutor(n_jobs)
    lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
    starts = range(first, first + n_seeds, _PART)
    for start in starts:
        part = range(start, min(start + _PART, first + n_seeds))
        children.submit(_play, part, lines)
    counts: Counter[str] = Counter()
    failed: list[int] = []
    done = n_over = 0
    try:
        while n_over < len(starts) and len(failed) < _ENOUGH:
            result = lines.get()
            if result is None:
                n_over += 1
                continue
            done += 1
            counts.update(result["counts"])
            if done % 500 == 0:
                print(f"{done} of {n_seeds} schedules", flush=True)
            if result["violations"]:
                failed.append(result["seed"])
                more = len(result["violations"]) - 1
                print(f"seed {failed[-1]}: {result['violations'][0]} (+{more})", flush=True)
    finally:
        _stopping.set()
        children.shutdown(cancel_futures=True)
    seconds = time.perf_counter() - began
    print(f"{done} schedules in {seconds:.0f} s ({done / seconds * 60:.0f} a minute)")
    print(", ".join(f"{kind}: {n}" for kind, n in sorted(counts.items())))
    print(f"{len(failed)} schedules with violations")
    if failed:
        print(f"replay: python -m tests.chaos.memory --seed {min(failed)} -v")
    return 1 if failed or done < n_seeds else 0


def _play(part: range, lines: "queue.Queue[dict[str, Any] | None]") -> None:
    """One child for one part; its results, and None at its end."""
    words = [*_ME, "--stripe", "--first", str(part.start), "--seeds", str(len(part))]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        lines.put(json.loads(line))
        if _stopping.is_set():
            child.terminate()
    child.wait()
    shutil.rmtree(directory_of(child.pid), ignore_errors=True)
    lines.put(None)


if __name__ == "__main__":
    sys.exit(main())
