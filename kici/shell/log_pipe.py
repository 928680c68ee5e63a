"""A second way out for log lines: from every process of ours to the one that ships them.

Opened by ``kici-worker run`` before the fork, and only when something ships. Message-
preserving and never blocking: a line that finds no room is dropped and counted, and the
count travels with the next line of that process.
"""

import logging
import socket
import struct

from kici.log_lines import JsonLines
from kici.shell.link import socketpair

#: Asked of the kernel; it gives what net.core.wmem_max allows.
BUFFER_BYTES = 4 * 2**20
#: A line as read: the lines dropped before it, then its JSON text.
_HEAD = struct.Struct(">I")
#: Longer lines exist only by mistake: the formatter cuts each field at 16 KiB.
MAX_LINE_BYTES = 128 * 1024
MAX_MESSAGE_BYTES = MAX_LINE_BYTES + _HEAD.size

_reader: socket.socket | None = None


class ToPipe(logging.Handler):
    """Owns: the sending end in this process. ``stream`` keeps it open over the fork."""

    def __init__(self, end: socket.socket) -> None:
        super().__init__()
        self.stream = end
        self.n_dropped = 0
        self.setFormatter(JsonLines())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record).encode("utf-8", "replace")[:MAX_LINE_BYTES]
            self.stream.send(_HEAD.pack(self.n_dropped) + line, socket.MSG_DONTWAIT)
            self.n_dropped = 0
        except (OSError, ValueError):
            self.n_dropped += 1


class _Keeper(logging.NullHandler):
    """Does nothing with records: it keeps the reading end open over the fork."""

    def __init__(self, end: socket.socket) -> None:
        super().__init__()
        self.stream = end


def open_pipe() -> None:
    """Send every later line of this process and its forks through the pipe as well."""
    global _reader
    reading, sending = socketpair()
    sending.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    reading.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    root = logging.getLogger()
    root.addHandler(ToPipe(sending))
    root.addHandler(_Keeper(reading))
    _reader = reading


def reader_fd() -> int | None:
    """The reading end, for the process that ships; None when no pipe was opened."""
    return None if _reader is None else _reader.fileno()


def split(message: bytes) -> tuple[int, bytes]:
    """``(lines dropped before it, line)`` of one message."""
    return int(_HEAD.unpack_from(message)[0]), message[_HEAD.size :]
