"""Whether this machine is fit for more work (issue 4 item 8). A pure decision with hysteresis.

While a guard is up offers are refused with its reason, no capacity is advertised and no agent
is started; jobs that run, or that an agent is there for, go on. A guard goes up beyond its
limit and comes down only when things are clearly better, so that it does not flap.
"""

from collections.abc import Iterator

import msgspec

from kici.config.model import Settings

#: A floor is left behind only at this many times its value, a ceiling this far below it.
RECOVER_FACTOR = 1.2
RECOVER_DEGREES = 5.0
_MIB = 2**20


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """One file system that we or our agents write to. ``inodes_free`` None: it has no such
    bound (btrfs, or nobody tells)."""

    path: str
    bytes_free: int
    inodes_free: int | None = None


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """The machine at one moment; what cannot be read is None or missing, and holds nobody up."""

    disks: tuple[Disk, ...] = ()
    memory_available: int | None = None
    temperature: float | None = None


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """0 turns a guard off. Bytes, inodes, bytes, degrees Celsius."""

    disk_min: int = 0
    inodes_min: int = 0
    memory_min: int = 0
    temperature_max: int = 0


def limits_of(settings: Settings) -> Limits:
    return Limits(
        disk_min=settings.guard_disk_min_bytes,
        inodes_min=settings.guard_inodes_min,
        memory_min=settings.guard_memory_min_bytes,
        temperature_max=settings.guard_temperature_max,
    )


class Guards:
    """Owns: which guards are up, and why. Told by: the core, with each reading."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        #: Guard -> reason for people, worst first.
        self.up: dict[str, str] = {}

    @property
    def reason(self) -> str:
        """Why no job is taken; empty when the machine is fit."""
        return "; ".join(self.up.values())

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.up)

    def look(self, reading: Reading) -> bool:
        """Take a reading; True when a guard went up or came down."""
        before = self.up
        self.up = dict(self._judge(reading))
        return before.keys() != self.up.keys()

    def _judge(self, reading: Reading) -> Iterator[tuple[str, str]]:
        limits = self._limits
        disk = min(reading.disks, key=lambda one: one.bytes_free, default=None)
        if disk is not None and self._below("disk", disk.bytes_free, limits.disk_min):
            free, wanted = disk.bytes_free // _MIB, limits.disk_min // _MIB
            yield "disk", f"disk: {free} MiB free at {disk.path}, {wanted} MiB are the least"
        counted = [one for one in reading.disks if one.inodes_free is not None]
        full = min(counted, key=lambda one: one.inodes_free or 0, default=None)
        if full is not None and self._below("inodes", full.inodes_free, limits.inodes_min):
            free, wanted = full.inodes_free or 0, limits.inodes_min
            yield "inodes", f"inodes: {free} free at {full.path}, {wanted} are the least"
        if self._below("memory", reading.memory_available, limits.memory_min):
            free, wanted = (reading.memory_available or 0) // _MIB, limits.memory_min // _MIB
            yield "memory", f"memory: {free} MiB available, {wanted} MiB are the least"
        degrees = reading.temperature
        if degrees is not None and self._above("temperature", degrees, limits.temperature_max):
            most = limits.temperature_max
            yield "temperature", f"temperature: {degrees:.0f} °C, {most} °C are the most"

    def _below(self, name: str, value: int | None, least: int) -> bool:
        if value is None:
            return False
        return value < (least * RECOVER_FACTOR if name in self.up else least)

    def _above(self, name: str, value: float, most: int) -> bool:
        return most > 0 and value > (most - RECOVER_DEGREES if name in self.up else most)
