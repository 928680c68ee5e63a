"""What the kernel knows about processes: memory, CPU time, bytes written, wake-ups."""

import contextlib
import os
import time
from pathlib import Path

import msgspec


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Totals since the processes began. ``cpu_s`` counts every thread, to the nanosecond."""

    cpu_s: float = 0.0
    written_bytes: int = 0
    wakeups: int = 0

    def since(self, before: "Usage") -> "Usage":
        return Usage(
            cpu_s=self.cpu_s - before.cpu_s,
            written_bytes=self.written_bytes - before.written_bytes,
            wakeups=self.wakeups - before.wakeups,
        )


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """MiB. PSS shares pages among their users; USS is what ending the process would free."""

    pss: float = 0.0
    uss: float = 0.0

    def __add__(self, other: "Memory") -> "Memory":
        return Memory(pss=self.pss + other.pss, uss=self.uss + other.uss)


def children(pid: int) -> list[int]:
    """``pid`` and everything below it."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                found += children(int(child))
    return found


def memory(pids: list[int]) -> Memory:
    total = Memory()
    for pid in pids:
        total += memory_of(pid)
    return total


def memory_of(pid: int) -> Memory:
    rows: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        rows[name] = int(value.split()[0])
    private = rows["Private_Clean"] + rows["Private_Dirty"]
    return Memory(pss=rows["Pss"] / 1024, uss=private / 1024)


def usage(pids: list[int]) -> Usage:
    cpu_s = 0.0
    written = 0
    for pid in pids:
        # The kernel's CPU clock of another process (clock_getcpuclockid): it also counts
        # threads that have ended.
        cpu_s += time.clock_gettime((~pid << 3) | 2)
        written += _field(Path(f"/proc/{pid}/io"), "write_bytes")
    return Usage(cpu_s=cpu_s, written_bytes=written, wakeups=sum(wakeups(pids).values()))


def wakeups(pids: list[int]) -> dict[tuple[int, str], int]:
    """Voluntary context switches by process and live thread: a thread that ends is missing."""
    found = {}
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/task/{task}/status")
                found[pid, task] = _field(status, "voluntary_ctxt_switches")
    return found


def descriptors(pids: list[int]) -> int:
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)


def threads(pids: list[int]) -> int:
    return sum(len(os.listdir(f"/proc/{pid}/task")) for pid in pids)


def title(pid: int) -> str:
    """``peer`` of ``kici-worker: peer``; the supervisor has the command's own name."""
    text = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    return text.rpartition("kici-worker: ")[2] if "kici-worker: " in text else "supervisor"


def _field(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise LookupError(f"{name} is not in {path}")
