"""Control groups of our own (Linux, cgroup v2): limits, and a kill that nothing escapes."""

import os
import time
from collections.abc import Mapping

import gevent

_POLL_S = 0.02
_KILL_S = 5.0
_CONTROLLERS = ("cpu", "memory", "pids")
_PERIOD_US = 100_000
#: DelegateSubgroup= of our unit: the daemon lies there, and agents beside it, because a group
#: with processes of its own hands no controllers down (cgroup v2).
DAEMON_GROUP = "daemon"


class CgroupBase:
    """A directory below which we may make groups; ``path`` is ours to use."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.controllers = _enable(path)

    def make(self, name: str, *, cpus: float = 0.0, memory_bytes: int = 0) -> tuple[str, list[str]]:
        """A group and the limits that could not be set. Raises ``OSError``."""
        group = os.path.join(self.path, name)
        os.makedirs(group, exist_ok=True)
        missing: list[str] = []
        wanted: dict[str, tuple[str, str]] = {}
        if cpus > 0:
            quota = max(round(cpus * _PERIOD_US), 1000)
            wanted["cpu"] = ("cpu.max", f"{quota} {_PERIOD_US}")
        if memory_bytes > 0:
            wanted["memory"] = ("memory.max", str(memory_bytes))
        for controller, (file, value) in wanted.items():
            if controller not in self.controllers or not _write(group, file, value):
                missing.append(controller)
        return group, missing


def delegated_base(
    mounts: str = "/proc/self/mountinfo", own: str = "/proc/self/cgroup"
) -> CgroupBase | None:
    """Our own group when it was given to us to divide; None elsewhere.

    Given to us means: a delegation mark of systemd, a directory owned by our
    unprivileged user, or a writable tree on a machine without systemd (a container).
    """
    path = _own_group(mounts, own)
    if path is None:
        return None
    parent, name = os.path.split(path)
    if name == DAEMON_GROUP and _is_usable(parent):
        return CgroupBase(parent)
    return CgroupBase(path) if _is_usable(path) else None


def _is_usable(path: str) -> bool:
    if not os.access(path, os.W_OK) or not _is_ours(path):
        return False
    return os.path.exists(os.path.join(path, "cgroup.procs"))


def enter(group: str) -> None:
    """Move the calling process; used between fork and exec."""
    fd = os.open(os.path.join(group, "cgroup.procs"), os.O_WRONLY)
    os.write(fd, b"0")
    os.close(fd)


def members(group: str) -> list[int]:
    try:
        with open(os.path.join(group, "cgroup.procs"), encoding="ascii") as file:
            return [int(line) for line in file]
    except OSError:
        return []


def kill(group: str) -> bool:
    """SIGKILL to all in ``group``, however they fork; removes it. False: some live on."""
    deadline = time.monotonic() + _KILL_S
    while time.monotonic() < deadline:
        if not _write(group, "cgroup.kill", "1"):
            for pid in members(group):
                _kill_one(pid)
        try:
            os.rmdir(group)
        except FileNotFoundError:
            return True
        except OSError:
            gevent.sleep(_POLL_S)
        else:
            return True
    return False


def _kill_one(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return


def _own_group(mounts: str, own: str) -> str | None:
    try:
        with open(own, encoding="ascii") as file:
            relative = next((line[3:].strip() for line in file if line.startswith("0::")), None)
        with open(mounts, encoding="utf-8") as file:
            rows = [line.split() for line in file]
    except OSError:
        return None
    if relative is None:
        return None
    for row in rows:
        if row[row.index("-") + 1] == "cgroup2":
            root = "" if row[3] == "/" else row[3]
            inside = relative.removeprefix(root).strip("/")
            return os.path.join(row[4], inside) if inside else row[4]
    return None


def _is_ours(path: str) -> bool:
    for name in ("trusted.delegate", "user.delegate"):
        try:
            if os.getxattr(path, name) == b"1":
                return True
        except OSError:
            continue
    if os.getuid() != 0 and os.stat(path).st_uid == os.getuid():
        return True
    return not os.path.isdir("/run/systemd/system")


def _enable(path: str) -> frozenset[str]:
    """Controllers that groups below ``path`` get. A base that holds processes itself
    cannot hand any down: then groups serve for killing only."""
    for controller in _CONTROLLERS:
        _write(path, "cgroup.subtree_control", f"+{controller}")
    try:
        with open(os.path.join(path, "cgroup.subtree_control"), encoding="ascii") as file:
            return frozenset(file.read().split())
    except OSError:
        return frozenset()


def _write(group: str, file: str, value: str) -> bool:
    try:
        fd = os.open(os.path.join(group, file), os.O_WRONLY)
    except OSError:
        return False
    try:
        os.write(fd, value.encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def describe(base: CgroupBase | None, missing: Mapping[str, object] | list[str]) -> str:
    """One phrase for events and logs: what holds the agent."""
    if base is None:
        return "process group, no limits"
    if missing:
        return f"cgroup, without limits for {', '.join(missing)}"
    return "cgroup"
