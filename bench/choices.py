"""What the design's choices earn: each with and without, interleaved in one run."""

import json
import os
import time
from collections.abc import Callable

import msgspec

from bench import processes
from bench.report import Report
from bench.work import Work
from bench.worker_end import rig
from kici.contracts.link import JobKey
from kici.contracts.link.envelope import pack, unpack
from kici.contracts.link.jobs import JobLogged
from kici.contracts.wire.agent import FromAgent
from kici.pool.relay import log_frames

RUNS = 5


def compare(report: Report) -> None:
    freeze(report)
    codecs(report)
    relaying(report)
    fsyncs(report)
    logging_level(report)


def freeze(report: Report) -> None:
    """One fork tree with and without ``gc.freeze()`` (``BENCH_NO_FREEZE`` is looked at by the
    bench's own start-up file, not by the product)."""
    with_, without = [], []
    for _ in range(3):
        for values, env in ((with_, {}), (without, _no_freeze())):
            with rig(env) as made:
                made.add_agents(4)
                Work(made).run_jobs(300)
                made.loop.rest(1)
                values.append(processes.memory(made.worker.pids).uss)
    report.add("USS after 300 jobs, frozen", with_, "MiB")
    report.add("USS after 300 jobs, gc.freeze() left out", without, "MiB")


def _no_freeze() -> dict[str, str]:
    """``sitecustomize`` takes ``gc.freeze`` away before our code is imported."""
    here = os.path.dirname(os.path.abspath(__file__))
    return {"PYTHONPATH": f"{here}/nofreeze:{os.path.dirname(here)}"}


def codecs(report: Report) -> None:
    """One log chunk of 100 lines: typed msgspec against the standard library's json."""
    frame = _chunk()
    decoder = msgspec.json.Decoder(FromAgent)
    _pair(report, "decode a chunk of 100 lines", "msgspec", lambda: decoder.decode(frame),
          "json", lambda: json.loads(frame), 2000)  # fmt: skip


def relaying(report: Report) -> None:
    """From pool to peer: the finished frame as bytes, against decoding it again on the way."""
    message = msgspec.json.decode(_chunk(), type=FromAgent)
    n_lines, frame = next(log_frames(message))
    key = JobKey(owner="ws://bench", run_id="r", job_id="j")
    logged = JobLogged(key=key, n_lines=n_lines, frame=frame)

    def opaque() -> None:
        unpack(pack("pool", "b", logged))

    def decoded() -> None:
        again = unpack(pack("pool", "b", logged)).body
        assert isinstance(again, JobLogged)
        msgspec.json.encode(msgspec.json.decode(again.frame))

    _pair(report, "pass a chunk from pool to peer", "as bytes", opaque, "decoded", decoded, 2000)


def fsyncs(report: Report) -> None:
    """A new outbox file: name and content in one commit, against two."""
    import tempfile
    from pathlib import Path

    from kici.shell.durable import write_atomic, write_new

    with tempfile.TemporaryDirectory(prefix="kici-bench-") as directory:
        numbers = iter(range(10**6))

        def path() -> Path:
            return Path(directory, str(next(numbers)))

        record = b"x" * 400
        _pair(report, "write an outbox record", "synced once", lambda: write_new(path(), record),
              "synced twice", lambda: write_atomic(path(), record), 60, wall=True)  # fmt: skip


def logging_level(report: Report) -> None:
    """CPU of a job with our log at info and at error."""
    costs: dict[str, list[float]] = {"info": [], "error": []}
    with rig({"KICI_LOG_LEVEL": "info"}) as info, rig({"KICI_LOG_LEVEL": "error"}) as error:
        for made in (info, error):
            made.add_agents(8)
            Work(made).run_jobs(100)
        for _ in range(RUNS):
            for name, made in (("info", info), ("error", error)):
                before = processes.usage(made.worker.pids)
                Work(made).run_jobs(100)
                used = processes.usage(made.worker.pids).since(before)
                costs[name].append(used.cpu_s * 10)
    for name, values in costs.items():
        report.add(f"CPU a job, log level {name}", values, "ms")


def _chunk() -> bytes:
    lines = ["x" * 99 + "\n"] * 100
    return msgspec.json.encode(
        {"type": "log.chunk", "messageId": "m", "runId": "r", "jobId": "j", "stepIndex": 0,
         "lines": lines, "timestamp": 1}
    )  # fmt: skip


def _pair(
    report: Report, what: str, first: str, one: Callable[[], object], second: str,
    other: Callable[[], object], count: int, *, wall: bool = False,
) -> None:  # fmt: skip
    clock = time.perf_counter if wall else time.process_time
    costs: dict[str, list[float]] = {first: [], second: []}
    for _ in range(RUNS):
        for name, call in ((first, one), (second, other)):
            began = clock()
            for _ in range(count):
                call()
            costs[name].append((clock() - began) / count * 1e6)
    for name, values in costs.items():
        report.add(f"{what}: {name}", values, "µs")
