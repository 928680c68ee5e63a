"""Ports for servers that tests start and that must know their port beforehand.

Below the range from which the kernel hands out ports by itself, and a part of it for each
worker of a parallel run: between the look and the use nobody else takes it.
"""

import itertools
import os
import socket
from collections.abc import Iterator

_FIRST, _PER_PART, N_PARTS = 12_000, 1_200, 16
_numbers: Iterator[int]


def use_part(number: int) -> None:
    """Hand out ports of part ``number`` from now on, beginning somewhere in it: another run
    on this machine begins elsewhere."""
    global _numbers
    first = _FIRST + number % N_PARTS * _PER_PART
    skipped = os.getpid() % _PER_PART
    part = range(first, first + _PER_PART)
    _numbers = itertools.cycle([*part[skipped:], *part[:skipped]])


use_part(int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")))


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    for _ in range(_PER_PART):
        port = next(_numbers)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")
