"""Deletes what a job left on the disk, whatever it is (agent spec 6.8)."""

import contextlib
import logging
import os
import stat
import uuid

import gevent

_log = logging.getLogger("kici.agent")


def clear(path: str) -> None:
    """Delete all of ``path`` in a worker thread; a warning when something is left."""
    gevent.get_hub().threadpool.apply(_clear, (path, uuid.uuid4().hex))
    if os.path.lexists(path):
        _log.warning("Directory %s of a job could not be deleted", path)


def _clear(root: str, prefix: str) -> None:
    """Each directory is moved up into ``root`` before it is emptied: a job can nest them
    deeper than Python recurses, than a process has descriptors and than a path may be long.
    ``prefix`` begins names that are not in use there."""
    todo, n_moved = [root], 0
    while todo:
        directory = todo.pop()
        for entry in _entries(directory):
            with contextlib.suppress(OSError):
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.path)
                    continue
                _open_up(entry.path)
                moved = entry.path
                if directory != root:
                    moved = os.path.join(root, f"{prefix}-{n_moved}")
                    n_moved += 1
                    os.rename(entry.path, moved)
                todo.append(moved)
        if directory != root:
            with contextlib.suppress(OSError):
                os.rmdir(directory)
    with contextlib.suppress(OSError):
        os.rmdir(root)


def _entries(directory: str) -> list["os.DirEntry[str]"]:
    _open_up(directory)
    with contextlib.suppress(OSError), os.scandir(directory) as found:
        return list(found)
    return []


def _open_up(directory: str) -> None:
    """Its owner may have taken every permission from it."""
    with contextlib.suppress(OSError):
        os.chmod(directory, stat.S_IRWXU)
