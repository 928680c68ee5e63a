"""Deletes a directory whatever its owner did to the modes inside."""

import os
import shutil
import stat
from collections.abc import Callable
from typing import Any

import gevent


def remove_tree(path: str) -> bool:
    """Delete all of ``path`` in a worker thread; True when nothing is left."""
    gevent.get_hub().threadpool.apply(_remove, (path,))
    return not os.path.lexists(path)


def _remove(path: str) -> None:
    # A directory without write or search permission: open it up, then once more.
    for _ in range(2):
        shutil.rmtree(path, onerror=_open_up)
        if not os.path.lexists(path):
            return


def _open_up(_function: Callable[..., Any], name: str, _error: Any) -> None:
    for each in (os.path.dirname(name), name):
        if os.path.isdir(each) and not os.path.islink(each):
            try:
                os.chmod(each, stat.S_IRWXU)
            except OSError:
                return
