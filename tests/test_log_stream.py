import io
import json
import logging
import os
import threading
import time

import pytest

from kici.log_stream import PATIENCE_MS, LineStream


def _record(text):
    return logging.LogRecord("kici.x", logging.INFO, "", 0, text, (), None)


@pytest.fixture
def pipe():
    read, write = os.pipe()
    stream = os.fdopen(write, "w")
    handler = LineStream(stream)
    handler.setFormatter(logging.Formatter("%(message)s%(count)s", defaults={"count": ""}))
    yield handler, read
    stream.close()
    os.close(read)


# W150
def test_a_stopped_reader_costs_patience_once_and_then_lines(pipe):
    handler, read = pipe
    start = time.monotonic()
    for _ in range(300):
        handler.emit(_record("x" * 999))
    assert time.monotonic() - start < PATIENCE_MS / 1000 * 4
    lost = handler.n_dropped
    assert 0 < lost < 300
    got = b""
    while not got.endswith(b"end\n"):
        if len(got) >= (300 - lost) * 1000 and b"end" not in got:
            handler.emit(_record("end"))
        got += os.read(read, 65536)
    lines = got.decode().splitlines()
    assert lines[-2:] == [f"Log lines were lost{lost}", "end"]
    assert set(lines[:-2]) == {"x" * 999}


def test_a_long_line_arrives_whole(pipe):
    handler, read = pipe
    parts = []

    def drain():
        while not (parts and parts[-1].endswith(b"\n")):
            parts.append(os.read(read, 65536))

    reader = threading.Thread(target=drain)
    reader.start()
    handler.emit(_record("y" * 500_000))
    reader.join(timeout=10)
    assert b"".join(parts) == b"y" * 500_000 + b"\n"


def test_what_follows_a_line_that_was_given_up_half_way_begins_a_line(pipe):
    handler, read = pipe
    handler.emit(_record("z" * 200_000))  # more than a pipe holds, and nobody reads
    assert handler.n_dropped == 1
    torn = os.read(read, 200_000)
    assert 0 < len(torn) < 200_000
    handler.emit(_record("next"))
    handler.emit(_record("last"))
    assert os.read(read, 65536) == b"\nLog lines were lost1\nnext\nlast\n"


def test_a_closed_stream_is_no_error():
    stream = io.StringIO()
    handler = LineStream(stream)
    stream.close()
    handler.emit(_record("x"))
    assert handler.n_dropped == 1


def test_a_formatter_that_fails_does_not_reach_the_caller(monkeypatch, capsys):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    handler = LineStream(io.StringIO())
    handler.setFormatter(type("Bad", (), {"format": lambda self, record: json.loads("{")})())
    handler.emit(_record("x"))
