"""Real processes under random faults: ``python -m tests.chaos.real --seeds 20``.

Each seed is one house in a directory of its own: coordinator, proxy, worker, host agents.
``--seed N -v`` runs one seed again, tells what happens and keeps the directory.
"""

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from tests.chaos.real_run import Outcome, Run
from tests.chaos.real_schedule import plan
from tests.support import ports


class Stopped(BaseException):
    """SIGTERM: the house is closed, its directory goes, and nothing new begins."""

    ever = False

    @classmethod
    def on_sigterm(cls) -> None:
        signal.signal(signal.SIGTERM, cls._stop)

    @classmethod
    def _stop(cls, *_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # closing is not to be stopped
        cls.ever = True
        raise cls


def run_seed(seed: int, keep: bool = False, verbose: bool = False) -> Outcome:
    """One seed; its directory stays when something is wrong or ``keep``."""
    if Stopped.ever:
        raise Stopped
    root = Path(tempfile.mkdtemp(prefix=f"kici-chaos-{seed}-"))
    wanted = plan(seed, full_disk=os.geteuid() == 0 and sys.platform.startswith("linux"))
    if verbose:
        print(f"seed {seed}, {wanted.slots} slots, {len(wanted.jobs)} jobs, in {root}")
        for fault in wanted.faults:
            print("   ", fault)
    run = Run(wanted, root, verbose)
    try:
        outcome = run.go()
    except Exception:  # noqa: BLE001 - whatever it is, it is this seed's result
        text = traceback.format_exc()
        outcome = Outcome(seed, [*run.violations, text], dict(run.faults.counts))
        outcome.directory = str(root)
    except (Stopped, KeyboardInterrupt):
        run.close()
        shutil.rmtree(root, ignore_errors=True)
        raise
    run.close()
    if not outcome.violations and not keep:
        shutil.rmtree(root, ignore_errors=True)
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds")
    parser.add_argument("--first", type=int, default=None, help="the first one (default: random)")
    parser.add_argument("--seed", type=int, help="only this one; its directory is kept")
    parser.add_argument("--parallel", type=int, default=max(2, os.cpu_count() or 1))
    parser.add_argument("-v", "--verbose", action="store_true")
    args = parser.parse_args()
    if args.seed is not None:
        outcome = run_seed(args.seed, keep=True, verbose=args.verbose)
        _show(outcome)
        print(f"kept: {outcome.directory}")
        return bool(outcome.violations)
    first = args.first if args.first is not None else random.randrange(10**6)
    print(f"{args.seeds} seeds from {first}, {args.parallel} at a time", flush=True)
    return _summary(_many(range(first, first + args.seeds), args.parallel, args.verbose))


def _many(seeds: range, n_parallel: int, verbose: bool) -> list[Outcome]:
    """Every seed's outcome; stopped from outside, each house is closed before we go."""
    outcomes = []
    numbers = multiprocessing.Value("i", 0)
    with ProcessPoolExecutor(n_parallel, initializer=_begin, initargs=(numbers,)) as pool:
        Stopped.on_sigterm()
        try:
            for done in as_completed([pool.submit(run_seed, seed) for seed in seeds]):
                outcomes.append(done.result())
                if outcomes[-1].violations or verbose:
                    _show(outcomes[-1])
        except (Stopped, KeyboardInterrupt):
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise
    return outcomes


def _begin(numbers: "Synchronized[int]") -> None:
    """A child of the pool: ports of its own, so that no house finds another's coordinator."""
    Stopped.on_sigterm()
    with numbers:
        numbers.value += 1
        ports.use_part(ports.N_PARTS - 1 - numbers.value)


def _show(outcome: Outcome) -> None:
    verdict = "violated" if outcome.violations else "kept"
    print(f"seed {outcome.seed}: {verdict}, {outcome.seconds:.1f} s, {outcome.ends}", flush=True)
    for text in outcome.violations:
        print("   ", text, flush=True)
    if outcome.violations:
        print(f"    again: python -m tests.chaos.real --seed {outcome.seed} -v", flush=True)


def _summary(outcomes: list[Outcome]) -> int:
    counts: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    for outcome in outcomes:
        counts.update(outcome.counts)
        ends.update(outcome.ends)
    failed = sorted(outcome.seed for outcome in outcomes if outcome.violations)
    print(f"seeds {len(outcomes)}, jobs {sum(o.n_jobs for o in outcomes)}, ends {dict(ends)}")
    print("faults", ", ".join(f"{name} {n}" for name, n in sorted(counts.items())))
    print(f"log lines counted as missing {sum(o.n_gap_lines for o in outcomes)}")
    print(f"violations {len(failed)}" + (f" in seeds {failed}" if failed else ""))
    return bool(failed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Stopped, KeyboardInterrupt):
        sys.exit("stopped; every house is closed")
