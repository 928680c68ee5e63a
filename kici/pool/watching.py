"""The pool looks at its machine now and then and tells the core (issue 4 item 8)."""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import gevent

from kici.config.model import ScalerConfig, Settings
from kici.pool.events import Event, MachineRead
from kici.pool.guards import Disk, Reading
from kici.shell.machine_facts import file_systems, memory_available, temperature

#: Between two looks: each is a few reads of /proc and /sys, and writes nothing.
LOOK_EVERY_S = 10.0
#: Where engines keep images and containers.
_ENGINE_ROOTS = ("/var/lib/docker", "/var/lib/containers")
_HOME_ENGINE_ROOTS = (".local/share/docker", ".local/share/containers")


def places(settings: Settings, scalers: ScalerConfig) -> tuple[str, ...]:
    """Directories that we and our agents write to; some may not exist."""
    found = [settings.data_dir, settings.runtime_dir, tempfile.gettempdir()]
    for scaler in scalers.scalers:
        found += [one.env["TMPDIR"] for one in scaler.label_sets if "TMPDIR" in one.env]
    local = [one for one in scalers.scalers if one.type == "container" and not one.host]
    if local:
        found += _ENGINE_ROOTS
        found += [str(Path.home() / name) for name in _HOME_ENGINE_ROOTS]
    return tuple(found)


def read_machine(directories: Iterable[str]) -> Reading:
    return Reading(
        disks=tuple(
            Disk(path=path, bytes_free=n_bytes, inodes_free=n_inodes)
            for path, n_bytes, n_inodes in file_systems(directories)
        ),
        memory_available=memory_available(),
        temperature=temperature(),
    )


def watch_machine(directories: Callable[[], Iterable[str]], tell: Callable[[Event], None]) -> None:
    """Look for ever; run in a greenlet, after one look of the caller's own."""
    while True:
        gevent.sleep(LOOK_EVERY_S)
        tell(MachineRead(read_machine(directories())))
