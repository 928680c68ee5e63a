"""Pure: the five invariants of issue 3, from what a run left behind."""

import re
from collections.abc import Iterable

import msgspec

#: Lines in a log that count what is missing.
GAP = re.compile(r"(\d+) (?:log )?lines (?:are missing|dropped|lost|were not stored)")
#: Words in a worker's log that mean a bug of ours.
BUGS = ("Uncaught exception", "Traceback (most recent", "helper crashed", "part failed")


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """One job after the run. ``written``: what the step itself noted in its journal."""

    job_id: str
    state: str
    reason: str
    terminals: tuple[str, ...]
    delivered: tuple[str, ...]
    written: tuple[str, ...]
    n_lines: int
    exit_code: int
    cancelled: bool


class Circumstances(msgspec.Struct, frozen=True, kw_only=True):
    """Which ends the run's faults excuse."""

    lost_agents: bool
    lost_worker: bool
    terminated: bool
    refused_disk: bool


def judge(job: Ended, around: Circumstances) -> Iterable[str]:
    """What is wrong with one job; nothing when all is well."""
    yield from _one_end(job)
    yield from _right_end(job, around)
    yield from _whole_log(job)


def _one_end(job: Ended) -> Iterable[str]:
    if len(job.terminals) > 1:
        yield f"two different terminal reports: {job.terminals}"
    if job.written.count("start") > 1:
        yield f"executed {job.written.count('start')} times"
    if job.terminals and job.state != job.terminals[0] and not job.cancelled:
        yield f"coordinator says {job.state}, worker reported {job.terminals[0]}"


def _right_end(job: Ended, around: Circumstances) -> Iterable[str]:
    natural = "success" if job.exit_code == 0 else "failed"
    if job.state == natural and not (natural == "failed" and "Step" not in job.reason):
        return
    if job.state == "cancelled" and (job.cancelled or around.terminated):
        return
    # A pool or worker that died as well did not know which agent had the job, or its end.
    lost = ("agent", "worker restarted")
    if job.state == "failed" and around.lost_agents and any(word in job.reason for word in lost):
        return
    if job.state == "failed" and around.lost_worker and "worker restarted" in job.reason:
        # Accepted, never dispatched, and its payload gone with the worker: an explicit loss.
        if "start" in job.written:
            yield f"a running job was given up: {job.reason}"
        return
    if job.state == "failed" and around.refused_disk and "No space left" in job.reason:
        return  # nothing could be started: it says so
    yield f"ended {job.state} ({job.reason}), expected {natural}"


def _whole_log(job: Ended) -> Iterable[str]:
    """Each written line once and in order, up to counted gaps."""
    numbers = [int(text[5:]) for text in job.delivered if text.startswith("line ")]
    if numbers != sorted(set(numbers)):
        yield f"log lines repeated or out of order: {numbers}"
    n_gone = sum(int(found[1]) for text in job.delivered if (found := GAP.search(text)))
    n_written = sum(word.isdecimal() for word in job.written)
    if len(numbers) > n_written + 1:
        yield f"{len(numbers)} lines delivered, {n_written} written"
    expected = set(range(1, job.n_lines + 1))
    if set(numbers) - expected:
        yield f"lines that nobody wrote: {sorted(set(numbers) - expected)}"
    complete = job.state == "success" or (job.state == "failed" and "Step" in job.reason)
    # Behind the numbered lines is one with the secret, which may be missing as well.
    n_shown = len(numbers) + ("secret ***" in job.delivered)
    if complete and n_shown + n_gone != job.n_lines + 1:
        yield f"{job.n_lines + 1} lines written, {n_shown} delivered, {n_gone} counted as missing"
