"""The machine: disk, memory, heat, clock, limits."""

import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from kici.cli.checks.finding import Finding, Patient, fail, judged, ok, skip, warn
from kici.shell.machine_facts import machine_facts
from kici.wording import size

MIN_DISK_FREE = 512 * 2**20
MIN_INODES = 10_000
MIN_WRITE_PER_S = 2 * 2**20
#: Written once for the speed; an SD card shows its worst on small synced writes.
PROBE_BYTES = 1 * 2**20
MIN_MEMORY = 128 * 2**20
MAX_TEMPERATURE = 80.0
MIN_FILES = 4096
#: No clock is right that shows a time before this program was written.
BUILT_AT = 1_760_000_000


def _directory(patient: Patient) -> str:
    path = patient.config.settings.data_dir if patient.config else tempfile.gettempdir()
    while not os.path.isdir(path):
        path = os.path.dirname(path) or "/"
    return path


def disk(patient: Patient) -> Iterator[Finding]:
    path = _directory(patient)
    usage = shutil.disk_usage(path)
    fix = f"sudo du -xh {path} | sort -h | tail"
    value = f"{size(usage.free)} of {size(usage.total)} at {path}"
    yield judged("disk free", usage.free >= MIN_DISK_FREE, value, size(MIN_DISK_FREE), fix)
    vfs = os.statvfs(path)
    if vfs.f_files:
        enough = vfs.f_favail >= MIN_INODES
        yield judged(
            "inodes free",
            enough,
            vfs.f_favail,
            str(MIN_INODES),
            f"sudo du -x --inodes {path} | sort -n | tail",
        )
    else:
        yield skip("inodes free", "the file system has no inode limit")


def disk_speed(patient: Patient) -> Iterator[Finding]:
    path = _directory(patient)
    if not os.access(path, os.W_OK):
        yield skip("disk speed", f"{path} is not writable by this user")
        return
    try:
        per_s = _write_speed(path)
    except OSError as error:
        reason = error.strerror or str(error)
        yield fail("disk speed", reason, "writable", f"sudo du -xh {path} | sort -h | tail")
        return
    limit = f"{size(MIN_WRITE_PER_S)}/s"
    fix = "put KICI_DATA_DIR on another disk or replace the SD card"
    yield judged("disk speed", per_s >= MIN_WRITE_PER_S, f"{size(per_s)}/s synced", limit, fix)


def _write_speed(path: str) -> float:
    """Bytes a second of a synced write of ``PROBE_BYTES`` in ``path``."""
    with tempfile.TemporaryFile(dir=path) as file:
        start = time.monotonic()
        file.write(os.urandom(PROBE_BYTES))
        file.flush()
        os.fsync(file.fileno())
        return PROBE_BYTES / max(1e-6, time.monotonic() - start)


def heat_and_memory(patient: Patient) -> Iterator[Finding]:
    facts = machine_facts("/")
    if facts.memory_available is None:
        yield skip("memory", "not told by this system")
    else:
        enough = facts.memory_available >= MIN_MEMORY
        value = size(facts.memory_available)
        yield judged(
            "memory", enough, f"{value} available", size(MIN_MEMORY), "ps aux --sort=-rss | head"
        )
    if facts.temperature is None:
        yield skip("temperature", "no sensor")
    else:
        cool = facts.temperature < MAX_TEMPERATURE
        value = f"{facts.temperature:.0f} C"
        yield judged("temperature", cool, value, f"under {MAX_TEMPERATURE:.0f} C", "add cooling")
    if facts.under_voltage is None:
        yield skip("supply voltage", "no sensor")
    else:
        value = "too low" if facts.under_voltage else "good"
        yield judged(
            "supply voltage", not facts.under_voltage, value, "good", "use the official supply"
        )
    if facts.load_1 is not None:
        limit = 4 * (facts.n_cpus or 1)
        yield judged(
            "load",
            facts.load_1 < limit,
            f"{facts.load_1:.1f}",
            f"under {limit}",
            "top -b -n1 | head -20",
        )


def clock(patient: Patient) -> Iterator[Finding]:
    fix = "sudo timedatectl set-ntp true"
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    yield judged("clock", time.time() > BUILT_AT, now, "after this program was made", fix)
    if Path("/run/systemd/timesync").is_dir():
        done = Path("/run/systemd/timesync/synchronized").exists()
        if not done:
            yield warn("clock synchronised", "not yet", "by systemd-timesyncd", fix)
        else:
            yield ok("clock synchronised", "yes")
    else:
        yield skip("clock synchronised", "systemd-timesyncd does not run here")


def limits(patient: Patient) -> Iterator[Finding]:
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = soft == resource.RLIM_INFINITY
    value = "unlimited" if unlimited else soft
    yield judged(
        "open files", unlimited or soft >= MIN_FILES, value, str(MIN_FILES), "ulimit -n 65536"
    )
    yield _cgroups()


def _cgroups() -> Finding:
    root = Path("/sys/fs/cgroup")
    if not root.is_dir():
        return skip("cgroups", "not Linux")
    controllers = root / "cgroup.controllers"
    if not controllers.exists():
        return warn(
            "cgroups",
            "version 1",
            "version 2",
            "add systemd.unified_cgroup_hierarchy=1 to the kernel's command line",
        )
    has_memory = "memory" in controllers.read_text().split()
    fix = "add cgroup_enable=memory to /boot/firmware/cmdline.txt"
    value = "version 2, memory controller " + ("on" if has_memory else "off")
    return judged("cgroups", has_memory, value, "memory controller on", fix)


CHECKS = (disk, disk_speed, heat_and_memory, clock, limits)
