"""Files that survive a power cut: written beside, fsynced, renamed, directory fsynced.

Errors are ``OSError`` of the step that failed; a failed write leaves the old file as it was.
"""

import contextlib
import os
import socket
from pathlib import Path

#: Suffix of a file that is not finished; readers ignore it, writers overwrite it.
TEMPORARY_SUFFIX = ".tmp"
PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700


def write_atomic(path: str | Path, data: bytes, mode: int = PRIVATE_FILE) -> None:
    """Make ``path`` hold exactly ``data`` with ``mode``, now and after a power cut."""
    target = Path(path)
    temporary = target.with_name(target.name + TEMPORARY_SUFFIX)
    try:
        _write_synced(temporary, data, mode)
        os.replace(temporary, target)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_directory(target.parent)


def write_new(path: str | Path, data: bytes, mode: int = PRIVATE_FILE) -> None:
    """As ``write_atomic``, for a ``path`` that nobody needs the old content of and whose
    reader recognises torn remains of a power cut (a killed process leaves none).

    File and rename reach the disk in one journal commit instead of two: commits are most of
    the time that this takes, and of what it costs a flash card.
    """
    target = Path(path)
    temporary = target.with_name(target.name + TEMPORARY_SUFFIX)
    descriptor = _written(temporary, data, mode)
    try:
        os.replace(temporary, target)
        os.fsync(descriptor)
    except OSError:
        for left in (temporary, target):
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    sync_directory(target.parent)


def create_empty(path: str | Path, mode: int = PRIVATE_FILE) -> None:
    """Make a file whose name says everything, now and after a power cut.

    No data block is written, and one fsync does: an entry of a directory that is durable
    leads to a file. ``FileExistsError`` when ``path`` exists.
    """
    target = Path(path)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        if not _synced_directory(target.parent):
            os.fsync(descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            target.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def discard(path: str | Path) -> bool:
    """Delete ``path``; it may be back after a power cut. False when it was not there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def empty(path: str | Path) -> None:
    """Take the content out of ``path``, durably and in place: the directory may be one that
    we cannot write (``/etc``), the file a bind mount."""
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: str | Path) -> bool:
    """Delete ``path`` durably; False when it was not there."""
    target = Path(path)
    try:
        target.unlink()
    except FileNotFoundError:
        return False
    sync_directory(target.parent)
    return True


def make_directory(path: str | Path, mode: int = PRIVATE_DIRECTORY) -> None:
    """Create ``path`` and its missing parents, each with ``mode`` whatever the umask is.

    A directory that exists is left as it is.
    """
    target = Path(path)
    if target.is_dir():
        return
    make_directory(target.parent, mode)
    with contextlib.suppress(FileExistsError):
        target.mkdir(mode)
        target.chmod(mode)


def sync_directory(path: str | Path) -> None:
    """Make renames and deletions in ``path`` durable; some filesystems cannot, and say so."""
    _synced_directory(path)


def _synced_directory(path: str | Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            # Not os.close: gevent's (25.8 on) leaves all but regular files to a later turn of
            # the loop, and the loop of a thread that has one never turns.
            socket.close(descriptor)
    except OSError:
        return False
    return True


def _write_synced(path: Path, data: bytes, mode: int) -> None:
    descriptor = _written(path, data, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _written(path: Path, data: bytes, mode: int) -> int:
    """The open descriptor of a new file at ``path`` with ``data`` in it, not synced yet.

    A temporary left by a crash may have other permissions: start from nothing, so that the
    mode is right from the first byte on.
    """
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        os.fchmod(descriptor, mode)
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    return descriptor
