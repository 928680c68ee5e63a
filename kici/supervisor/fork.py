"""The child's side of the fork: everything between ``fork()`` and its ``run(boot)``.

In one function, in one order (design rule 6).
"""

import gc
import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from kici import log_lines
from kici.contracts.states import ChildName
from kici.shell import host
from kici.shell.child import ChildBoot
from kici.supervisor.signals import reset_in_child

_log = logging.getLogger("kici.supervisor")

RunChild = Callable[[ChildBoot], int]
#: Exit code of a child that ended by an exception that nobody caught: it is restarted.
EXIT_CRASHED = 1


def freeze() -> None:
    """Last thing before the first fork: what was imported is never moved or counted by the
    collector again, so that its pages stay shared (105 -> 73 MB for the four)."""
    gc.collect()
    gc.freeze()


def become(boot: ChildBoot, run: RunChild) -> NoReturn:
    """Turn this fresh fork into the child ``boot.name`` and never return.

    Nothing of the parent's objects may be collected here: their finalizers would close
    descriptors that by then are others. They live as long as the frames below us do.
    """
    code = EXIT_CRASHED
    try:
        # A group of its own: Ctrl-C at the terminal must reach the supervisor alone.
        os.setpgid(0, 0)
        reset_in_child()
        host.close_fds_except(_own_fds(boot))
        _patch()
        log_lines.set_component(str(boot.name))
        host.set_process_title(f"kici-worker: {boot.name}")
        code = run(boot)
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else EXIT_CRASHED
    except BaseException:  # noqa: BLE001 (logged; nothing is above us but the exit)
        _log.exception("Uncaught exception", extra={"child": str(boot.name)})
    finally:
        _flush()
        os._exit(code)


def _own_fds(boot: ChildBoot) -> set[int]:
    own = {0, 1, 2, *boot.link_fds.values(), *_log_fds()}
    if boot.listen_fd is not None and boot.name == ChildName.WEB:
        own.add(boot.listen_fd)
    return own


def _log_fds() -> set[int]:
    """Files that log handlers hold open (``KICI_LOG_DIR``): the child logs there too."""
    fds = set()
    for handler in logging.getLogger().handlers + logging.getLogger("kici").handlers:
        stream = getattr(handler, "stream", None)
        try:
            fds.add(stream.fileno())
        except (AttributeError, OSError, ValueError):
            continue  # not a file
    return fds


def _patch() -> None:
    from gevent import monkey

    monkey.patch_all()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # closed or broken (W150): there is nobody left to tell
