"""Bytes to lines to batches, told the time."""

from hypothesis import given
from hypothesis import strategies as st

from kici.agent.logs import BATCH_LINES, MAX_CHUNK_CHARS, MAX_LINE, LineSplitter, StepLog
from kici.agent.redact import Redactor


class Sink(list):
    def __call__(self, index, lines, stream):
        self.append((lines, stream))

    @property
    def lines(self):
        return [line for lines, _ in self for line in lines]


def step_log(limit=10**9, secrets=()):
    sink = Sink()
    return sink, StepLog(0, Redactor(secrets), limit, sink)


@given(st.lists(st.integers(1, 30), max_size=8))
# A93
def test_a_secret_is_masked_wherever_the_reads_are_cut(cuts):
    data = b"begin token-of-secrecy end\nlast token-of-secrecy"
    splitter = LineSplitter(Redactor(["token-of-secrecy"]))
    lines, at = [], 0
    for cut in cuts:
        lines += splitter.feed(data[at : at + cut])
        at += cut
    lines += splitter.feed(data[at:]) + splitter.end()
    assert lines == ["begin *** end", "last ***"]


@given(st.integers(-30, 10))
# A93
def test_a_secret_across_the_forced_cut_of_a_long_line_is_masked(shift):
    secret = "token-of-secrecy"
    splitter = LineSplitter(Redactor([secret]))
    data = b"a" * (MAX_LINE + shift) + secret.encode() + b"b" * MAX_LINE
    pieces = []
    for at in range(0, len(data), 1000):
        pieces += splitter.feed(data[at : at + 1000])
    text = "".join(pieces + splitter.end())
    assert text == "a" * (MAX_LINE + shift) + "***" + "b" * MAX_LINE


def test_a_long_line_is_cut_between_characters():
    splitter = LineSplitter(Redactor([]))
    data = "ä".encode() * MAX_LINE
    text = "".join(splitter.feed(data[:70001]) + splitter.feed(data[70001:]) + splitter.end())
    assert text == "ä" * MAX_LINE


@given(st.binary(max_size=300), st.integers(1, 50))
def test_lines_are_the_same_however_they_arrive(data, step):
    splitter = LineSplitter(Redactor([]))
    lines = []
    for at in range(0, len(data), step):
        lines += splitter.feed(data[at : at + step])
    lines += splitter.end()
    expected = data.decode("utf-8", "replace").split("\n") if data else []
    assert lines == (expected[:-1] if data.endswith(b"\n") else expected)


def test_a_batch_waits_for_its_time_or_its_size():
    sink, log = step_log()
    log.feed("stdout", b"one\n", 0.0)
    log.flush_due(0.05)
    assert sink == []
    log.flush_due(0.1)
    assert sink.lines == ["one"]
    log.feed("stdout", b"x\n" * (BATCH_LINES + 1), 0.2)
    assert len(sink[1][0]) == BATCH_LINES


# A92
def test_no_batch_exceeds_the_bound_even_with_long_lines():
    sink, log = step_log()
    log.feed("stdout", (b"y" * 50_000 + b"\n") * 20, 0.0)
    log.end(0.0)
    assert len(sink.lines) == 20
    assert max(sum(map(len, lines)) for lines, _ in sink) <= MAX_CHUNK_CHARS


def test_streams_are_told_apart_but_order_wins_when_they_alternate_fast():
    sink, log = step_log()
    for number in range(50):
        log.feed("stdout", f"o{number}\n".encode(), 0.0)
        log.feed("stderr", f"e{number}\n".encode(), 0.0)
    log.end(0.0)
    assert sink.lines == [f"{kind}{n}" for n in range(50) for kind in "oe"]
    assert [stream for _, stream in sink][:3] == ["stdout", "stderr", "stdout"]
    assert sink[-1][1] == ""
    assert len(sink) < 15


def test_the_limit_counts_raw_bytes_and_ends_with_one_marker():
    sink, log = step_log(limit=8)
    log.feed("stdout", b"abc\ndefghijk\n", 0.0)
    log.feed("stdout", b"more\n", 0.0)
    log.end(0.0)
    assert sink.lines == ["abc", "defg", "[TRUNCATED: log output exceeded 8 bytes]"]
    assert log.n_bytes == 8


@given(st.integers(1, 40), st.sampled_from([[], ["stderr"]]))
# A93
def test_a_limit_inside_a_secret_does_not_show_its_beginning(limit, first):
    secret = "token-of-secrecy"
    sink, log = step_log(limit, [secret])
    for stream in [*first, "stdout"]:
        log.feed(stream, b"say token-of", 0.0)
    log.feed("stdout", b"-secrecy and much more\n" * 2, 0.0)
    log.end(0.0)
    assert sink.lines[-1] == f"[TRUNCATED: log output exceeded {limit} bytes]"
    assert "tok" not in "".join(sink.lines[:-1])


# A93
def test_output_that_is_cut_off_inside_a_secret_does_not_show_its_beginning():
    sink, log = step_log(secrets=["token-of-secrecy"])
    log.feed("stdout", b"say it:             token-of", 0.0)
    log.end(0.0, "[cut]")
    assert sink.lines[-1] == "[cut]"
    assert "tok" not in "".join(sink.lines)
