"""A log handler that neither raises, blocks for long, nor ends when its reader does.

A full pipe stops a writer until somebody reads; a stopped log reader must not stop the
worker. So a line that cannot be written within ``PATIENCE_MS`` is dropped, the next ones
are dropped at once until there is room, and then the number of lost lines is written.
"""

import logging
import os
import select
import sys
from typing import Any, TextIO

#: How long one line waits for room; the whole process stands still that long, once.
PATIENCE_MS = 500
#: A pipe that polls writable takes at least this much without blocking (POSIX PIPE_BUF is
#: 512 at least; 4096 on Linux). Lines up to this are never torn between two processes.
_PIECE = min(getattr(select, "PIPE_BUF", 512), 4096)


def _unpatched_poll() -> Any:
    """gevent's own ``poll`` would switch greenlets inside a log call."""
    monkey = sys.modules.get("gevent.monkey")
    poll = monkey.get_original("select", "poll") if monkey else getattr(select, "poll", None)
    return poll()


class LineStream(logging.Handler):
    """Owns: the output of one process's log. Told by: ``logging``."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream
        self.n_dropped = 0
        self._stuck = False
        self._torn = False
        try:
            self._fd: int | None = stream.fileno()
        except (AttributeError, OSError, ValueError):
            self._fd = None  # not a file: a test's buffer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record) + "\n"
            if self._fd is None:
                self.stream.write(line)
            else:
                self._write_counted(line, record)
        except (OSError, ValueError):
            self.n_dropped += 1  # W150: the reader is gone; so is whom we could tell
        except Exception:  # noqa: BLE001 (a log call never breaks its caller)
            self.handleError(record)

    def _write_counted(self, line: str, record: logging.LogRecord) -> None:
        if self.n_dropped and self._has_room(0):
            lost, self.n_dropped = self.n_dropped, 0
            notice = logging.LogRecord(
                record.name, logging.WARNING, "", 0, "Log lines were lost", (), None
            )
            notice.count = lost
            self._write(self.format(notice) + "\n")
        if not self._write(line):
            self.n_dropped += 1

    def _write(self, line: str) -> bool:
        """Write the whole line; False when it was given up. What of it is out already then
        is ended by the next one: glued together both would be lost to a reader of JSON."""
        data = b"\n" * self._torn + line.encode("utf-8", "backslashreplace")
        position = 0
        while position < len(data):
            if not self._has_room(0 if self._stuck else PATIENCE_MS):
                self._stuck = True
                self._torn |= position > 0
                return False
            self._stuck = False
            assert self._fd is not None
            position += os.write(self._fd, data[position : position + _PIECE])
        self._torn = False
        return True

    def _has_room(self, timeout_ms: int) -> bool:
        poll = _unpatched_poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(timeout_ms))
