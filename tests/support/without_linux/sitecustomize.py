"""Takes from Python what only Linux has: a directory for PYTHONPATH, in front of ours.

Each process that starts with it says so in the file that ``WITHOUT_LINUX`` names.
"""

import errno
import os
import socket
import sys
from pathlib import Path

_FOR_OPEN = ("open", "os.listdir", "os.scandir")


def _take_away() -> None:
    for name in ("pidfd_open", "memfd_create", "sched_getaffinity", "posix_fallocate", "pipe2"):
        if hasattr(os, name):
            delattr(os, name)
    for name in ("TCP_USER_TIMEOUT", "SO_PEERCRED", "SO_PASSCRED", "SO_DOMAIN"):
        if hasattr(socket, name):
            delattr(socket, name)
            socket.__all__.remove(name)
    pair = socket.socketpair

    def socketpair(family=None, kind=socket.SOCK_STREAM, proto=0):
        # The constant exists on macOS, the sockets do not.
        if kind == socket.SOCK_SEQPACKET:
            raise OSError(errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT))
        return pair(family, kind, proto)

    socket.socketpair = socketpair


def _refuse(path: object) -> None:
    if str(path).startswith(("/proc", "/sys")):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def _no_proc(event: str, arguments: tuple[object, ...]) -> None:
    if event in _FOR_OPEN:
        _refuse(arguments[0])


def _hide_from_stat() -> None:
    stat = os.stat  # no audit event tells of it

    def refusing(path, **more):
        _refuse(path)
        return stat(path, **more)

    os.stat = refusing


if os.environ.get("WITHOUT_LINUX"):
    _take_away()
    from kici.shell import host

    host.is_linux = lambda: False
    host.PS_ENVIRONMENT = "axeww"  # the ps is that of Linux all the same
    host.FD_DIRECTORIES = ("/dev/fd",)
    with Path(os.environ["WITHOUT_LINUX"]).open("a") as said:
        said.write(f"{os.getpid()} {Path(sys.orig_argv[1] if sys.orig_argv[1:] else '').name}\n")
    _hide_from_stat()
    sys.addaudithook(_no_proc)
