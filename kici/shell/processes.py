"""Finding and ending whole process trees, also what has left its group and session.

Linux reads ``/proc``; elsewhere ``ps`` answers the same questions, more slowly. A process
is named by pid **and** start time: a pid alone may be somebody else's by now.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from functools import cache

import gevent
import msgspec
from gevent.socket import wait_read

from kici.shell import host

_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.02
#: Where there is no pidfd (macOS), a process is looked at this often; each look is a ``ps``.
_WATCH_S = 0.5
#: ``ps`` on a busy Mac.
_PS_TIMEOUT_S = 10.0


class Process(msgspec.Struct, frozen=True):
    """One running process; ``started`` is the kernel's own word for when."""

    pid: int
    parent: int
    group: int
    session: int
    started: str
    zombie: bool = False


def adopt_orphans() -> bool:
    """Make this process the parent of its orphaned descendants (Linux); False elsewhere."""
    if not host.is_linux():
        return False
    import ctypes  # here: 0.3 MiB that most of our processes never need

    libc = ctypes.CDLL(None, use_errno=True)
    return libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def look(pid: int) -> Process | None:
    """What ``pid`` is now; None when there is no such process."""
    if host.is_linux():
        return _read_stat(pid)
    return next(iter(_ps("-p", str(pid))), None)


def alive(process: Process) -> bool:
    """True while this very process runs (a zombie does not)."""
    now = look(process.pid)
    return now is not None and now.started == process.started and not now.zombie


def table() -> list[Process]:
    """Every process of this machine that we may see."""
    if not host.is_linux():
        return list(_ps("-ax"))
    found = (_read_stat(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [process for process in found if process is not None]


def tree(
    roots: Iterable[int], *, mark: str | None = None, sessions: Iterable[int] = ()
) -> list[Process]:
    """Descendants of ``roots`` (without them), members of ``sessions`` or of the groups of
    the same number, and whoever has ``mark`` (``NAME=value``) in its environment."""
    processes = [one for one in table() if not one.zombie]
    wanted = set(roots)
    known: dict[int, Process] = {}
    in_sessions = set(sessions)
    linux = host.is_linux()
    marked = _marked(mark) if mark and not linux else frozenset()
    for one in processes:
        belongs = one.session in in_sessions or one.group in in_sessions or one.pid in marked
        if belongs or (mark and linux and _has_mark(one.pid, mark)):
            known[one.pid] = one
    grown = True
    while grown:
        grown = False
        for one in processes:
            if one.pid not in known and (one.parent in wanted or one.parent in known):
                known[one.pid] = one
                grown = True
    for root in [*wanted, os.getpid()]:
        known.pop(root, None)
    return list(known.values())


def send(process: Process, number: int) -> None:
    """Signal this very process; nothing happens when it is gone."""
    if alive(process):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, number)


def end_all(
    find: Callable[[], list[Process]], *, grace_s: float, kill_s: float = 5.0
) -> list[Process]:
    """TERM to all that ``find`` returns, KILL after ``grace_s``; returns who survived.

    ``find`` is asked again and again: a dying tree may still fork.
    """
    started = time.monotonic()
    told: set[tuple[int, str]] = set()
    while members := find():
        now = time.monotonic()
        if now - started > grace_s + kill_s:
            return members
        number = signal.SIGTERM if now - started < grace_s else signal.SIGKILL
        for one in members:
            if number == signal.SIGKILL or (one.pid, one.started) not in told:
                told.add((one.pid, one.started))
                send(one, number)
        gevent.sleep(_POLL_S)
    return []


def wait_gone(process: Process, timeout_s: float) -> bool:
    """Wait for the end of a process that need not be our child; False: it still runs."""
    if not alive(process):
        return True
    fd = host.process_fd(process.pid)
    if fd is None:
        return _poll_gone(process, timeout_s)
    try:
        # Opened after the look: the pid may have changed hands in between.
        if not alive(process):
            return True
        wait_read(fd, timeout=timeout_s)
    except TimeoutError:
        return False
    finally:
        os.close(fd)
    return True


def _poll_gone(process: Process, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while alive(process):
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        gevent.sleep(min(left, _WATCH_S))
    return True


@cache
def boot_id() -> str:
    """Names this boot: start times are only comparable within one."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        pass
    try:
        words = ["sysctl", "-n", "kern.boottime"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.partition("}")[0]


def _environ(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return b""


def _has_mark(pid: int, mark: str) -> bool:
    return mark.encode() in _environ(pid).split(b"\0")


def _read_stat(pid: int) -> Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    # The name, in parentheses, may hold spaces and parentheses itself.
    fields = text[text.rfind(b")") + 2 :].split()
    parent, group, session = (int(field) for field in fields[1:4])
    return Process(pid, parent, group, session, fields[19].decode(), fields[0] in (b"Z", b"X"))


def _ps(*which: str) -> Iterable[Process]:
    columns = "pid=,ppid=,pgid=,sess=,stat=,lstart="
    try:
        looking = subprocess.Popen(
            ["ps", *which, "-o", columns],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={"PATH": "/bin:/usr/bin", "LC_ALL": "C"},
        )
    except OSError:
        return
    with looking:
        try:
            shown, _ = looking.communicate(timeout=_PS_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            looking.kill()
            return
    for line in shown.splitlines():
        words = line.split(None, 5)
        if len(words) == 6:
            pid, parent, group = (int(word) for word in words[:3])
            if pid == looking.pid:
                continue  # it lists itself, and is gone
            # macOS prints a session as an address or 0; the group stands in for it.
            session = int(words[3]) if words[3].isdigit() and words[3] != "0" else group
            yield Process(pid, parent, group, session, words[5].strip(), words[4][:1] == "Z")


def _marked(mark: str) -> frozenset[int]:
    try:
        done = subprocess.run(
            ["ps", host.PS_ENVIRONMENT, "-o", "pid=,command="],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PS_TIMEOUT_S,
            env={"PATH": "/bin:/usr/bin", "LC_ALL": "C"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return frozenset()
    rows = (line.split(None, 1) for line in done.stdout.splitlines())
    return frozenset(int(row[0]) for row in rows if len(row) == 2 and mark in row[1].split())
