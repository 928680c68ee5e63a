"""A queue of byte records on disk, in files that are deleted once they are read.

Not fsynced: it survives the death of a process, not a power cut. The read position stands in
each file's first bytes, so that a restart does not repeat what was taken.
"""

import contextlib
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from kici.shell.durable import PRIVATE_FILE

#: A file is begun anew above this size: the space of what is read comes back in such steps.
SEGMENT_BYTES = 2**20
_POSITION = struct.Struct(">Q")
_LENGTH = struct.Struct(">I")
_SUFFIX = ".log"
#: The first file's number: there is room for files before it.
_FIRST_NUMBER = 10**9


class Segments:
    """Owns: the files ``<name>-<number>.log`` of one queue."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        found = (path.stem.rsplit("-", 1)[1] for path in directory.glob(f"{name}-*{_SUFFIX}"))
        self._numbers = sorted(int(number) for number in found if number.isdecimal())
        self._reader: int | None = None
        self._writer: int | None = None
        self._position = 0
        self._written = 0

    def append(self, record: bytes) -> None:
        """Add ``record`` at the end; ``OSError`` leaves the queue as it was."""
        if self._writer is None or self._written >= SEGMENT_BYTES:
            self._begin()
        data = _LENGTH.pack(len(record)) + record
        assert self._writer is not None
        written = os.pwrite(self._writer, data, self._written)
        if written != len(data):
            os.ftruncate(self._writer, self._written)
            raise OSError("disk full")
        self._written += written

    def prepend(self, records: Sequence[bytes]) -> None:
        """Put ``records`` before everything; ``OSError`` leaves the queue as it was."""
        number = (self._numbers[0] if self._numbers else _FIRST_NUMBER) - 1
        framed = b"".join(_LENGTH.pack(len(record)) + record for record in records)
        path = self._path(number)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            data = _POSITION.pack(_POSITION.size) + framed
            if os.pwrite(descriptor, data, 0) != len(data):
                raise OSError("disk full")
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(descriptor)
        self._numbers.insert(0, number)
        if self._reader is not None:
            os.close(self._reader)  # its position stands in the file
            self._reader = None

    def first(self) -> bytes | None:
        """The oldest record, left in place."""
        while self._numbers:
            if self._reader is None:
                self._reader = os.open(self._path(self._numbers[0]), os.O_RDWR | os.O_CLOEXEC)
                head = os.pread(self._reader, _POSITION.size, 0)
                end = os.fstat(self._reader).st_size  # a damaged file may say anything
                self._position = min(max(int.from_bytes(head, "big"), _POSITION.size), end)
            record = self._read_at(self._position)
            if record is not None:
                return record
            if len(self._numbers) == 1 and self._writer is not None:
                self.clear()
                return None
            self._drop_first()
        return None

    def drop(self, record: bytes) -> None:
        """``record``, got by ``first``, is dealt with."""
        assert self._reader is not None
        self._position += _LENGTH.size + len(record)
        with contextlib.suppress(OSError):  # then a restart repeats it
            os.pwrite(self._reader, _POSITION.pack(self._position), 0)

    def scan(self) -> Iterator[bytes]:
        """Every record, for the counts after a restart; reads one file at a time."""
        for number in self._numbers:
            data = self._path(number).read_bytes()
            position = max(int.from_bytes(data[: _POSITION.size], "big"), _POSITION.size)
            while position + _LENGTH.size <= len(data):
                (length,) = _LENGTH.unpack_from(data, position)
                position += _LENGTH.size
                if not 0 < length <= len(data) - position:
                    break
                yield data[position : position + length]
                position += length

    def clear(self) -> None:
        """Delete everything."""
        while self._numbers:
            self._drop_first()

    def close(self) -> None:
        for descriptor in (self._reader, self._writer):
            if descriptor is not None:
                os.close(descriptor)
        self._reader = self._writer = None

    def _path(self, number: int) -> Path:
        return self._directory / f"{self._name}-{number}{_SUFFIX}"

    def _begin(self) -> None:
        number = self._numbers[-1] + 1 if self._numbers else _FIRST_NUMBER
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        writer = os.open(self._path(number), flags, PRIVATE_FILE)
        if self._writer is not None:
            os.close(self._writer)
        self._writer, self._written = writer, _POSITION.size
        self._numbers.append(number)
        os.pwrite(writer, _POSITION.pack(_POSITION.size), 0)

    def _read_at(self, position: int) -> bytes | None:
        assert self._reader is not None
        head = os.pread(self._reader, _LENGTH.size, position)
        if len(head) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack(head)
        if length == 0:
            return None  # what a power cut leaves of the last writes
        record = os.pread(self._reader, length, position + _LENGTH.size)
        return record if len(record) == length else None

    def _drop_first(self) -> None:
        number = self._numbers.pop(0)
        if self._reader is not None:
            os.close(self._reader)
            self._reader = None
        if not self._numbers and self._writer is not None:
            os.close(self._writer)
            self._writer = None
        with contextlib.suppress(FileNotFoundError):
            self._path(number).unlink()
