"""Agent messages -> peer frames, rendered once as JSON bytes (peer spec 4.8, 4.11, 4.12).

The hot path is ``log_frames``: everything a step writes passes through it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from kici.contracts.states import WIRE_TERMINAL, WireJobState
from kici.contracts.wire import Number, encode
from kici.contracts.wire.agent.jobs import JobStatus, LogChunk, StepStatus
from kici.contracts.wire.peer.jobs import JobProgress, LogLine, PeerLogChunk, ScalerEvent
from kici.protocol.nesting import is_too_deep, may_be_deep

#: Bounds of one ``peer.log.chunk`` (peer spec 4.11).
MAX_LINES = 500
MAX_CHUNK_CHARACTERS = 256 * 1024
#: A longer line is cut into several: whatever JSON escapes and UTF-8 make of it, six bytes
#: a character, its frame stays below 25 MiB.
MAX_LINE_CHARACTERS = 2 * 2**20
#: Bound of a report (peer spec 5.3), without what ``_shrunk`` takes away.
MAX_REPORT_BYTES = 4 * 2**20
#: Secret names reported with a step (peer spec 4.8).
MAX_SECRETS_ACCESSED = 30
#: Characters of a step's name.
MAX_NAME = 1000
#: Step states that both versions know; any other terminal-looking one becomes failed.
STEP_STATES = frozenset({"running", "success", "failed", "skipped", "pending", "cancelled"})
#: How agents may call an end that the protocol has no word for (P52).
UNKNOWN_TERMINAL = frozenset(
    {"failure", "error", "errored", "timeout", "timed_out", "aborted", "unroutable", "crashed"}
)
#: Job states that an agent may end with; the coordinators' own verdicts count as failed.
AGENT_TERMINAL = frozenset({"success", "failed", "cancelled", "skipped"})


def job_state(state: str) -> str | None:
    """What to do with a job state: ``running``, ``cancelling``, a terminal one, or None.

    Informational ones produce no relay (A57); unknown terminal ones are failures.
    """
    if state in AGENT_TERMINAL or state in ("running", "cancelling"):
        return state
    if state in UNKNOWN_TERMINAL or state in WIRE_TERMINAL:
        return WireJobState.FAILED
    return None


def step_state(state: str) -> str | None:
    if state in STEP_STATES:
        return state
    return "failed" if state in UNKNOWN_TERMINAL or state in WIRE_TERMINAL else None


def job_frame(
    run_id: str, job_id: str, state: str, timestamp: Number, data: dict[str, Any] | None = None
) -> bytes:
    """``job.progress`` of kind job."""
    return _frame(
        JobProgress(
            kind="job",
            run_id=run_id,
            job_id=job_id,
            job_name="",
            step_index=0,
            step_name="",
            state=state,
            timestamp=timestamp,
            data=data or None,
        )
    )


def _frame(progress: JobProgress) -> bytes:
    """As JSON; data that is too large or too deep is cut down."""
    try:
        frame = encode(progress)
    except RecursionError:
        trouble = "was nested too deeply"
    else:
        if len(frame) > MAX_REPORT_BYTES:
            trouble = f"of {len(frame)} bytes was too large"
        elif may_be_deep(frame) and is_too_deep(progress.data or {}):
            trouble = "was nested too deeply"
        else:
            return frame
    data = _shrunk(progress.data or {}, trouble)
    return encode(msgspec.structs.replace(progress, data=data))


def _shrunk(data: dict[str, Any], trouble: str) -> dict[str, Any]:
    """The report without what made it too large, saying so (P72)."""
    note = f"report {trouble}: outputs and step results are left out"
    error = data.get("error")
    text = f"{error[:10_000]} ({note})" if isinstance(error, str) and error else note
    shrunk: dict[str, Any] = {"error": text}
    if isinstance(data.get("durationMs"), int | float):
        shrunk["durationMs"] = data["durationMs"]
    return shrunk


def status_data(message: JobStatus) -> dict[str, Any] | None:
    """The agent's data, with what it put at the top level."""
    if not message.dropped_jobs:
        return message.data
    return {"droppedJobs": list(message.dropped_jobs), **(message.data or {})}


def step_frame(message: StepStatus, state: str) -> bytes:
    """``job.progress`` of kind step, with the top-level fields merged into ``data``."""
    data = dict(message.data or {})
    if message.secrets_accessed is not None:
        data["secretsAccessed"] = list(message.secrets_accessed[:MAX_SECRETS_ACCESSED])
    extra = {
        "concurrencyKind": message.concurrency_kind,
        "groupId": message.group_id,
        "stepType": message.step_type,
        "logBytesStreamed": message.log_bytes_streamed,
    }
    data.update({key: value for key, value in extra.items() if value is not None})
    return _frame(
        JobProgress(
            kind="step",
            run_id=message.run_id,
            job_id=message.job_id,
            job_name="",
            step_index=message.step_index,
            step_name=message.step_name[:MAX_NAME],
            state=state,
            timestamp=message.timestamp,
            data=data or None,
        )
    )


def log_frames(message: LogChunk) -> Iterator[tuple[int, bytes]]:
    """``(n_lines, frame)`` for each chunk; lines keep the agent's timestamp (A63)."""
    stream = message.stream or "stdout"
    timestamp = message.timestamp
    at = message.first_line
    if any(len(line) > MAX_LINE_CHARACTERS for line in message.lines):
        at = None  # cut into more lines than were counted
    for lines in _chunks(message.lines):
        frame = encode(
            PeerLogChunk(
                run_id=message.run_id,
                job_id=message.job_id,
                step_index=message.step_index,
                lines=tuple(
                    [LogLine(text=text, timestamp=timestamp, stream=stream) for text in lines]
                ),
                first_line=at,
                n_covered=message.n_covered,
            )
        )
        if at is not None:
            at += len(lines)
        yield len(lines), frame


def later_lines(message: LogChunk, skip: int) -> LogChunk:
    """The chunk without its first ``skip`` lines."""
    first = None if message.first_line is None else message.first_line + skip
    return msgspec.structs.replace(message, lines=message.lines[skip:], first_line=first)


def _chunks(lines: Sequence[str]) -> Iterator[Sequence[str]]:
    if not lines:
        return
    if len(lines) <= MAX_LINES and sum(map(len, lines)) <= MAX_CHUNK_CHARACTERS:
        yield lines
        return
    chunk: list[str] = []
    n_characters = 0
    for line in _cut(lines):
        if chunk and (len(chunk) == MAX_LINES or n_characters + len(line) > MAX_CHUNK_CHARACTERS):
            yield chunk
            chunk, n_characters = [], 0
        chunk.append(line)
        n_characters += len(line)
    yield chunk


def _cut(lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        for begin in range(0, len(line) or 1, MAX_LINE_CHARACTERS):
            yield line[begin : begin + MAX_LINE_CHARACTERS]


def note_frame(run_id: str, job_id: str, step_index: Number, text: str, timestamp: Number) -> bytes:
    """A log line of the worker itself, for a counted gap."""
    line = LogLine(text=text, timestamp=timestamp, stream="stderr")
    return encode(PeerLogChunk(run_id=run_id, job_id=job_id, step_index=step_index, lines=(line,)))


def scaler_frame(
    run_id: str, job_id: str, agent_id: str, event_type: str, detail: str, timestamp_ms: int
) -> bytes:
    return encode(
        ScalerEvent(
            run_id=run_id,
            job_id=job_id,
            agent_id=agent_id,
            event_type=event_type,
            detail=detail[:2000],
            timestamp_ms=timestamp_ms,
        )
    )
