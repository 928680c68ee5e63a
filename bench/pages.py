"""Memory of a group of processes with each page counted once, whoever else has it mapped.

PSS depends on who else runs: a library's page that the load maps, too, counts half. This does
not. Needs root, because only root sees which page is which (``/proc/*/pagemap``).
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_PRESENT, _OF_FILE, _FRAME = 1 << 63, 1 << 61, (1 << 55) - 1


def pages(pids: list[int]) -> tuple[float, float] | None:
    """MiB of anonymous memory and of mapped files; None where we may not look."""
    if os.geteuid() != 0 or not Path("/proc/self/pagemap").exists():
        return None
    anonymous, files = set(), set()
    for pid in pids:
        for entry in _entries(pid):
            if entry & _PRESENT:
                (files if entry & _OF_FILE else anonymous).add(entry & _FRAME)
    return len(anonymous) * _PAGE / 2**20, len(files) * _PAGE / 2**20


def _entries(pid: int) -> Iterator[int]:
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            if line.endswith(("[vsyscall]", "[vdso]", "[vvar]")):
                continue
            first, last = (int(end, 16) // _PAGE for end in line.split()[0].split("-"))
            pagemap.seek(first * 8)
            for (entry,) in struct.iter_unpack("<Q", pagemap.read((last - first) * 8)):
                yield entry
