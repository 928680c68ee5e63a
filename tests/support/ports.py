"""Ports for servers that tests start and that must know their port beforehand.

Below the range from which the kernel hands out ports by itself, and a part of it for each
worker of a parallel run: between the look and the use nobody else takes it.
"""

import itertools
import os
import socket

_FIRST, _PER_WORKER = 12_000, 1_200
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 16
_start = _FIRST + _worker * _PER_WORKER
# Another run on this machine begins elsewhere in its part.
_numbers = itertools.cycle(range(_PER_WORKER))
for _ in range(os.getpid() % _PER_WORKER):
    next(_numbers)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    for _ in range(_PER_WORKER):
        port = _start + next(_numbers)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")
