"""What one log line costs, in allocations instead of time."""

import tracemalloc

import msgspec
import pytest

from kici.contracts.link import JobKey
from kici.contracts.link.envelope import pack, unpack
from kici.contracts.link.jobs import JobLogged
from kici.pool.relay import log_frames
from kici.protocol.agent_frames import parse
from kici.protocol.handshake import Sealer

LINES = 100
#: The text itself is 100 bytes a line, and 149 as a string of Python's.
MAX_POOL_BYTES_A_LINE = 550
MAX_PEER_BYTES_A_LINE = 950


@pytest.fixture
def chunk():
    return msgspec.json.encode(
        {
            "type": "log.chunk", "messageId": "m", "runId": "r", "jobId": "j", "stepIndex": 0,
            "lines": ["x" * 99 + "\n"] * LINES, "timestamp": 1,
        }
    )  # fmt: skip


def peak_of(call):
    """Bytes that ``call`` had allocated at its worst moment."""
    call()  # once before: caches are no cost of a line
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def to_link(chunk):
    """The pool's part: agent's frame in, link message out."""
    key = JobKey(owner="ws://c", run_id="r", job_id="j")
    frames = [JobLogged(key=key, n_lines=n, frame=f) for n, f in log_frames(parse(chunk))]
    return [pack("pool", "b", frame) for frame in frames]


def test_the_pool_allocates_a_bounded_amount_a_line(chunk):
    assert peak_of(lambda: to_link(chunk)) / LINES <= MAX_POOL_BYTES_A_LINE


def test_the_peer_copies_a_line_a_few_times_at_the_most(chunk):
    sealer, (message,) = Sealer(bytes(32)), to_link(chunk)
    assert (
        peak_of(lambda: sealer.seal(unpack(message).body.frame, bytes(12))) / LINES
        <= MAX_PEER_BYTES_A_LINE
    )


def test_a_chunk_of_an_agent_is_one_frame_to_the_coordinator(chunk):
    assert len(to_link(chunk)) == 1
