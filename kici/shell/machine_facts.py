"""Facts about the machine that people ask for: disk, memory, load, temperature.

Linux reads /proc and /sys; where those are missing (macOS) a fact is None, never wrong.
"""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

_THERMAL = Path("/sys/class/thermal")
#: The Raspberry Pi firmware's under-voltage alarm.
_HWMON = Path("/sys/class/hwmon")


class MachineFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes, degrees Celsius, load of one minute."""

    disk_total: int | None = None
    disk_free: int | None = None
    memory_total: int | None = None
    memory_available: int | None = None
    load_1: float | None = None
    n_cpus: int | None = None
    temperature: float | None = None
    under_voltage: bool | None = None


def machine_facts(directory: str) -> MachineFacts:
    """Now; the disk is the one that holds ``directory``."""
    disk = _disk(directory)
    memory = _memory()
    return MachineFacts(
        disk_total=disk[0],
        disk_free=disk[1],
        memory_total=memory.get("MemTotal"),
        memory_available=memory_available(),
        load_1=_load(),
        n_cpus=os.cpu_count(),
        temperature=temperature(),
        under_voltage=under_voltage(),
    )


def file_systems(directories: Iterable[str]) -> Iterator[tuple[str, int, int | None]]:
    """``(directory, bytes free, inodes free)`` for us, each file system once.

    Inodes are None where the file system does not count them. A directory that cannot be
    asked is left out.
    """
    seen = set()
    for directory in directories:
        try:
            device = os.stat(directory).st_dev
            found = os.statvfs(directory)
        except OSError:
            continue
        if device not in seen:
            seen.add(device)
            inodes = found.f_favail if found.f_files else None
            yield directory, found.f_bavail * found.f_frsize, inodes


def memory_available() -> int | None:
    """Bytes that new programs can have without swapping."""
    if sys.platform == "darwin":
        return _darwin_memory()
    return _memory().get("MemAvailable")


def _darwin_memory() -> int | None:
    """The kernel's own percentage of free memory; no process is started for it."""
    import ctypes

    libc = ctypes.CDLL(None)

    def number(name: bytes) -> int | None:
        value, size = ctypes.c_uint64(0), ctypes.c_size_t(8)
        failed = libc.sysctlbyname(name, ctypes.byref(value), ctypes.byref(size), None, 0)
        return None if failed else value.value

    percent, total = number(b"kern.memorystatus_level"), number(b"hw.memsize")
    return None if percent is None or total is None else total * percent // 100


def temperature(root: Path = _THERMAL) -> float | None:
    """The hottest zone, or None where there is no sensor."""
    readings = [_number(zone / "temp") for zone in sorted(root.glob("thermal_zone*"))]
    found = [reading / 1000 for reading in readings if reading is not None]
    return max(found) if found else None


def under_voltage(root: Path = _HWMON) -> bool | None:
    """The Pi's firmware alarm; None on other machines."""
    alarms = [_number(alarm) for alarm in sorted(root.glob("hwmon*/in0_lcrit_alarm"))]
    known = [alarm for alarm in alarms if alarm is not None]
    return any(known) if known else None


def written_bytes(pids: Iterable[int]) -> int | None:
    """What these processes made the kernel write to disks; None where it is not told."""
    total = None
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/io").read_text().splitlines()
        except OSError:
            continue
        values = dict(line.split(": ") for line in lines if ": " in line)
        total = (total or 0) + int(values.get("write_bytes", 0))
    return total


def _disk(directory: str) -> tuple[int | None, int | None]:
    try:
        usage = shutil.disk_usage(directory)
    except OSError:
        return None, None
    return usage.total, usage.free


def _memory() -> dict[str, int]:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {
        name: int(value.split()[0]) * 1024
        for name, value in pairs
        if name in ("MemTotal", "MemAvailable")
    }


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
