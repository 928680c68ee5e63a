"""A file of lines that grows at its end and may be cut short by a power loss.

Not fsynced: what it holds is worth less than a flash card's erase cycle.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from kici.shell.durable import PRIVATE_FILE

#: Read at most this much of the end of a file that somebody else may have filled.
MAX_READ_BYTES = 8 * 2**20


def append_line(path: str | Path, line: bytes) -> None:
    """Add ``line`` (with its newline); an unfinished last line is closed first."""
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        end = os.lseek(descriptor, 0, os.SEEK_END)
        torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
        os.write(descriptor, b"\n" + line if torn else line)
    finally:
        os.close(descriptor)


def read_lines(path: str | Path) -> Iterator[bytes]:
    """The lines of ``path``, oldest first; nothing when it is missing or unreadable."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MAX_READ_BYTES))
            yield from file.read(MAX_READ_BYTES).splitlines()
    except OSError:
        return
