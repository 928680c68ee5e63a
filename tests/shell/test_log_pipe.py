"""The second way out for log lines: never blocks, counts what it drops."""

import json
import logging
import socket

import pytest

from kici.shell.link import socketpair
from kici.shell.log_pipe import MAX_MESSAGE_BYTES, ToPipe, split


@pytest.fixture
def pipe():
    reading, sending = socketpair()
    reading.settimeout(5)
    handler = ToPipe(sending)
    logger = logging.getLogger("tests.log_pipe")
    logger.propagate = False
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield logger, handler, reading
    logger.removeHandler(handler)
    reading.close()
    sending.close()


def test_a_line_arrives_as_json_with_nothing_dropped(pipe) -> None:
    logger, _handler, reading = pipe
    logger.info("hello", extra={"jobId": "j"})
    n_dropped, line = split(reading.recv(MAX_MESSAGE_BYTES))
    assert n_dropped == 0
    assert (json.loads(line)["message"], json.loads(line)["jobId"]) == ("hello", "j")


def test_without_a_reader_nothing_blocks_and_the_next_line_tells_the_loss(pipe) -> None:
    logger, handler, reading = pipe
    for number in range(20_000):
        logger.info("line %d", number)
    lost = handler.n_dropped
    assert lost > 0
    reading.setblocking(False)
    seen = []
    try:
        while True:
            seen.append(split(reading.recv(MAX_MESSAGE_BYTES)))
    except BlockingIOError:
        pass
    assert len(seen) + lost == 20_000
    logger.info("after")
    n_dropped, line = split(reading.recv(MAX_MESSAGE_BYTES))
    assert (n_dropped, json.loads(line)["message"]) == (lost, "after")


def test_a_reader_that_is_gone_costs_lines_not_the_process(pipe) -> None:
    logger, handler, reading = pipe
    reading.shutdown(socket.SHUT_RDWR)
    logger.info("nobody")
    assert handler.n_dropped == 1
