"""The file of one machine pool, its lock and where it is (scaler spec 2.7): JSON in the
reference's format, guarded by a lock directory. Waiting uses ``time.sleep``, which lets other
greenlets run in the pool process.
"""

import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from kici.errors import KiciError

LOCK_ATTEMPTS = 200
LOCK_DELAY_S = 0.005
LOCK_DELAY_MAX_S = 0.1
STALE_LOCK_S = 30.0


class LedgerBroken(KiciError):
    """The ledger cannot be used; nothing was reserved."""


class Cap(msgspec.Struct, rename="camel", omit_defaults=True):
    max_cpu: float | None = None
    max_memory_bytes: int | None = None


class Reservation(msgspec.Struct, rename="camel"):
    instance_id: str
    pid: int
    boot_id: str
    agent_id: str
    cpus: float
    mem_bytes: int
    reserved_at: int
    #: Ours: tells a process from a later one with the same number. Absent in the reference.
    pid_started: str | None | msgspec.UnsetType = msgspec.UNSET


class Book(msgspec.Struct, rename="camel"):
    version: int
    cap: Cap
    reservations: list[Reservation]


@contextmanager
def locked(lock: Path, wall: Callable[[], float]) -> Iterator[None]:
    delay = LOCK_DELAY_S
    for _ in range(LOCK_ATTEMPTS):
        try:
            lock.mkdir()
            break
        except FileExistsError:
            if _is_stale(lock, wall):
                continue
        except OSError as error:
            raise LedgerBroken(f"{lock}: {error}") from error
        time.sleep(delay * random.uniform(0.8, 1.2))  # noqa: S311
        delay = min(delay * 2, LOCK_DELAY_MAX_S)
    else:
        raise LedgerBroken(f"{lock}: held by another process for too long")
    try:
        yield
    finally:
        _unlock(lock)


def _unlock(lock: Path) -> None:
    try:
        lock.rmdir()
    except FileNotFoundError:
        return  # another process took it over: the clock stepped, the machine was suspended
    except OSError as error:
        raise LedgerBroken(f"{lock}: {error}") from error


def _is_stale(lock: Path, wall: Callable[[], float]) -> bool:
    """Remove a lock that its process left behind; True when the next try may succeed."""
    try:
        if wall() - lock.stat().st_mtime <= STALE_LOCK_S:
            return False
        lock.rmdir()
    except OSError:
        return False
    return True


def exists(path: Path) -> bool:
    """Whether there is such a file; a name that none can have breaks the ledger."""
    try:
        return path.exists()
    except OSError as error:
        raise LedgerBroken(f"{path}: {error}") from error


def ledger_directory(chosen: str | None) -> Path:
    """The first directory that can be written; an explicit one has no substitute."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    candidates = [
        Path("/var/lib/kici/scaler-ledger"),
        Path(state, "kici/scaler-ledger"),
        Path(tempfile.gettempdir(), "kici-scaler-ledger"),
    ]
    problem = ""
    for path in [Path(chosen)] if chosen else candidates:
        try:
            path.mkdir(parents=True, exist_ok=True)
            probe = path / f".probe.{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            problem = f"{path}: {error}"
        else:
            return path
    raise LedgerBroken(problem)
