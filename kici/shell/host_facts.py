"""Diagnostics of this machine for heartbeats (peer spec 4.4); what is unknown is left out."""

import getpass
import os
import platform
import time

from kici.contracts.wire.peer.heartbeat import HostFacts

_MIB = 2**20
_MEMORY_FILE = "/proc/meminfo"


def host_facts() -> HostFacts:
    """The facts now; costs about 0.1 ms and blocks on nothing."""
    total, available = _memory()
    used = total - available if total is not None and available is not None else None
    return HostFacts(
        hostname=platform.node() or None,
        os_release=platform.release() or None,
        total_memory_mb=total,
        memory_used_mb=used,
        memory_available_mb=available,
        cpu_count=os.cpu_count(),
        uptime_seconds=_uptime_s(),
        node_version=f"cpython-{platform.python_version()}",
        running_as_user=_user(),
        running_as_uid=os.getuid(),
    )


def _memory() -> tuple[int | None, int | None]:
    """Total and available MiB; macOS tells only the total without running a program."""
    try:
        with open(_MEMORY_FILE, encoding="ascii") as lines:
            found = dict(line.split(":", 1) for line in lines)
        values = [int(found[name].split()[0]) // 1024 for name in ("MemTotal", "MemAvailable")]
        return values[0], values[1]
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _MIB, None
    except (OSError, ValueError):
        return None, None


def _uptime_s() -> int | None:
    try:
        return int(time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)))
    except OSError:
        return None


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's uid without a name
        return None
