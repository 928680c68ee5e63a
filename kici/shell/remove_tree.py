"""Deletes a directory whatever its owner did to the modes inside, and however deep it is."""

import contextlib
import os
import stat
import uuid

import gevent


def remove_tree(path: str) -> bool:
    """Delete all of ``path`` in a worker thread; True when nothing is left."""
    gevent.get_hub().threadpool.apply(_remove, (path, uuid.uuid4().hex))
    return not os.path.lexists(path)


def _remove(root: str, prefix: str) -> None:
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
        os.unlink(root) if os.path.islink(root) else os.rmdir(root)


def _entries(directory: str) -> list["os.DirEntry[str]"]:
    """None of a link: what it points to is not ours to empty."""
    if os.path.islink(directory):
        return []
    _open_up(directory)
    with contextlib.suppress(OSError), os.scandir(directory) as found:
        return list(found)
    return []


def _open_up(directory: str) -> None:
    """Its owner may have taken every permission from it."""
    with contextlib.suppress(OSError):
        os.chmod(directory, stat.S_IRWXU)
