"""The log files of the last hours, for a bundle: newest first, bounded, masked once more.

For threads: no gevent. A file that is rotated or removed meanwhile is skipped.
"""

import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from kici.log_files import log_files
from kici.redaction import redact
from kici.shell.zip_writer import BLOCK_BYTES

#: A log line is far shorter (log.py); what is longer is cut here so that memory is bounded.
_MAX_LINE_BYTES = 1024 * 1024


class LogFile(msgspec.Struct, frozen=True):
    """One file; of ``n_bytes`` (uncompressed) the last ``n_wanted`` are wanted."""

    path: Path
    name: str
    n_bytes: int
    n_wanted: int


def recent_logs(directory: str, instance: str, since: float, max_bytes: int) -> list[LogFile]:
    """Files written after ``since`` (wall-clock seconds), the newest first; ``max_bytes`` of
    log text in all, so that the oldest is cut or missing where there is more."""
    found = []
    for path in log_files(directory, instance):
        try:
            facts = os.lstat(path)
            if stat.S_ISREG(facts.st_mode) and facts.st_mtime >= since:
                found.append((facts.st_mtime, path, _size(path, facts.st_size)))
        except OSError:
            continue
    chosen, left = [], max_bytes
    for _modified, path, n_bytes in sorted(found, reverse=True):
        if left <= 0:
            break
        wanted = min(n_bytes, left)
        chosen.append(LogFile(path, path.name.removesuffix(".gz"), n_bytes, wanted))
        left -= wanted
    return chosen


def masked_blocks(log: LogFile) -> Iterator[bytes]:
    """The wanted end of ``log`` in whole lines, as far as it can be read."""
    try:
        with _raw(log.path) as raw, _plain(raw, log.path) as file:
            for block in _whole_lines(file, _skip(file, log)):
                # Line by line: most lines show at a glance that they hold no secret (35 MB/s;
                # 9 MB/s for blocks).
                lines = block.decode("utf-8", "replace").split("\n")
                yield "\n".join(map(redact, lines)).encode("utf-8")
    except (OSError, EOFError, zlib.error) as error:
        yield f"\n[{log.name}: {error}]\n".encode()


def _skip(file: BinaryIO, log: LogFile) -> int:
    """Go to the first whole line of what is wanted; how many bytes are left."""
    skip, left = log.n_bytes - log.n_wanted, log.n_wanted
    while skip > 0 and (passed := file.read(min(skip, BLOCK_BYTES))):
        skip -= len(passed)
    return left - len(file.readline(_MAX_LINE_BYTES)) if log.n_wanted < log.n_bytes else left


def _whole_lines(file: BinaryIO, left: int) -> Iterator[bytes]:
    """Blocks that end with a line: what is to be masked must not straddle two of them."""
    rest = b""
    while left > 0 and (read := file.read(min(left, BLOCK_BYTES))):
        left -= len(read)
        whole, newline, rest = (rest + read).rpartition(b"\n")
        if len(rest) > _MAX_LINE_BYTES:
            whole, newline, rest = whole + newline + rest, b"", b""
        if whole or newline:
            yield whole + newline
    if rest:
        yield rest


def _raw(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


def _plain(raw: BinaryIO, path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if path.suffix == ".gz" else raw


def _size(path: Path, n_bytes: int) -> int:
    """Of the text: gzip keeps it in the last four bytes."""
    if path.suffix != ".gz":
        return n_bytes
    with open(path, "rb") as file:
        file.seek(max(0, n_bytes - 4))
        return int.from_bytes(file.read(4), "little")
