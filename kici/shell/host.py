"""What this machine offers. The one place that asks; tests replace these functions' inputs.

Linux first; macOS has no ``SOCK_SEQPACKET``, no ``/proc`` and no abstract sockets.
"""

import os
import resource
import socket
import sys
from collections.abc import Iterable

#: Where open descriptors are listed: Linux, then macOS and the BSDs.
FD_DIRECTORIES = ("/proc/self/fd", "/dev/fd")
#: How ``ps`` of macOS and the BSDs is asked for all processes with their environments (that of
#: Linux, which needs no asking, would want ``axeww``).
PS_ENVIRONMENT = "-axEww"
#: Descriptors looked at one by one where no directory lists them.
MAX_FDS_TRIED = 65536


def is_linux() -> bool:
    """Whether there are /proc, control groups and process descriptors to ask for."""
    return sys.platform.startswith("linux")


def link_kind() -> int:
    """The type of our socketpairs: message-preserving, with EOF where there is one."""
    # Darwin's headers name SOCK_SEQPACKET, but its Unix sockets refuse it.
    return socket.SOCK_SEQPACKET if is_linux() else socket.SOCK_DGRAM


def links_report_eof() -> bool:
    """Whether the death of the other side is seen as EOF; else its pid must be watched."""
    return link_kind() != socket.SOCK_DGRAM


def open_fds() -> list[int]:
    """The descriptors of this process (perhaps with some that are not open)."""
    for directory in FD_DIRECTORIES:
        try:
            return sorted(int(name) for name in os.listdir(directory))
        except OSError:
            continue
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return list(range(min(soft, MAX_FDS_TRIED) if soft > 0 else MAX_FDS_TRIED))


def close_fds_except(kept: Iterable[int]) -> None:
    """Close every descriptor that is not in ``kept`` (a child after the fork)."""
    keep = set(kept)
    for fd in open_fds():
        if fd not in keep:
            try:
                os.close(fd)
            except OSError:
                pass  # the descriptor of the listing itself, or one that was never open


def abstract_sockets() -> bool:
    """Whether addresses that begin with a NUL byte exist."""
    return is_linux()


def process_fd(pid: int) -> int | None:
    """A descriptor that becomes readable when ``pid`` ends; None where there is none to be
    had (macOS), or the process is gone."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def anonymous_file(name: str) -> int | None:
    """A new file in memory only, readable by our user; None where there is none (macOS)."""
    if not hasattr(os, "memfd_create"):
        return None
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    os.fchmod(fd, 0o600)
    return fd


def set_process_title(title: str) -> bool:
    """Show ``title`` in ps; False where the module is missing (the title stays)."""
    try:
        from setproctitle import setproctitle
    except ImportError:
        return False
    setproctitle(title)
    return True


def return_freed_memory() -> bool:
    """Let the C library return what it keeps of freed blocks; False where it cannot be asked
    (musl and macOS return them by themselves)."""
    try:
        # Here: most processes never have a burst, and ctypes costs memory itself.
        import ctypes

        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (ImportError, OSError, AttributeError):
        return False
