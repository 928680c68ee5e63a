"""Twenty-four hours of a busy worker, compressed: 20,000 jobs with reconnects, then what is
left of them: memory, descriptors, threads, outbox, spool."""

import os
import time

from bench import processes
from bench.report import Report
from bench.work import Work
from bench.worker_end import Rig, rig

N_JOBS = int(os.environ.get("BENCH_SOAK_JOBS", "20000"))
N_RECONNECTS = 20
_AT_ONCE = 16


def soak(report: Report) -> None:
    """The first tenth is warm-up; the slope is of what follows."""
    with rig() as made:
        made.add_agents(16)
        work = Work(made)
        part = N_JOBS // N_RECONNECTS
        samples: list[tuple[int, processes.Memory]] = []
        began = time.perf_counter()
        for n in range(1, N_RECONNECTS + 1):
            work.run_jobs(part, at_once=_AT_ONCE)
            _reconnect(made)
            if n == 2:
                made.loop.rest(2)
                counts = _counts(made)
            if n >= 2:
                made.loop.rest(0.5)
                samples.append((n * part, processes.memory(made.worker.pids)))
        seconds = time.perf_counter() - began
        made.loop.rest(3)
        end = _counts(made)
        outbox, spool = _left(made, "worker-outbox"), _left(made, "log-spool")
    report.add("soak: jobs a second, with reconnects", [N_JOBS / seconds], "/s")
    report.add("soak: PSS after a tenth", [samples[0][1].pss], "MiB")
    report.add("soak: PSS at the end", [samples[-1][1].pss], "MiB")
    slope = (samples[-1][1].uss - samples[0][1].uss) * 1024 / (samples[-1][0] - samples[0][0])
    report.add("soak: growth a job (USS)", [slope], "KiB", "<= 1")
    report.add("soak: descriptors more", [end[0] - counts[0]], "", "0")
    report.add("soak: threads more", [end[1] - counts[1]], "", "0")
    report.add("soak: files left in the outbox", [outbox], "", "0")
    report.add("soak: files left in the spool", [spool], "", "0")
    report.note("soak: USS by jobs", ", ".join(f"{n}: {m.uss:.1f}" for n, m in samples[::3]))


def _reconnect(made: Rig) -> None:
    """Cut the coordinator's connection while jobs may be running."""
    link = made.coordinator.link
    assert link is not None
    link.end.close()
    made.loop.run(
        lambda: made.coordinator.joined and made.coordinator.link is not link, "worker is back", 90
    )


def _counts(made: Rig) -> tuple[int, int]:
    pids = made.worker.pids
    return processes.descriptors(pids), processes.threads(pids)


def _left(made: Rig, name: str) -> int:
    """Records (an open one is an empty file) or files with something in them."""
    return sum(
        path.is_file() and ("__" in path.name or path.stat().st_size > 0)
        for path in made.worker.directory.rglob(f"{name}/*")
        if path.suffix != ".url"
    )
