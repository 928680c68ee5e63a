"""The machine pool's ledger, shared by all workers of this machine (scaler spec 2.7).

One JSON file a pool, in the reference's format, guarded by a lock directory. Waiting uses
``time.sleep``, which lets other greenlets run in the pool process.
"""

import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from kici.config.model import ResourceCap, ResourceSpec
from kici.errors import KiciError
from kici.shell import processes

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


class Ledger:
    """Owns: this instance's rows. Told by: the fleet."""

    def __init__(
        self,
        directory: str | None,
        instance_id: str,
        *,
        wall: Callable[[], float] = time.time,
        alive: Callable[[int], bool] | None = None,
    ) -> None:
        self._chosen = directory
        self._directory: Path | None = None
        self._instance_id = instance_id
        self._wall = wall
        self._alive = alive or _alive
        self._boot_id = processes.boot_id()

    def reserve(self, pool: str, cap: ResourceCap, agent_id: str, requests: ResourceSpec) -> str:
        """Take a share; empty when it is ours, else why there is no room."""
        with self._opened(pool, cap) as book:
            cpus = sum(row.cpus for row in book.reservations) + requests.cpus
            memory = sum(row.mem_bytes for row in book.reservations) + requests.memory_bytes
            if book.cap.max_cpu and cpus > book.cap.max_cpu + 1e-9:
                return f"machine pool {pool}: {cpus:g} of {book.cap.max_cpu:g} CPUs"
            if book.cap.max_memory_bytes and memory > book.cap.max_memory_bytes:
                return f"machine pool {pool}: {memory} of {book.cap.max_memory_bytes} bytes"
            book.reservations.append(self._row(agent_id, requests))
        return ""

    def _row(self, agent_id: str, requests: ResourceSpec) -> Reservation:
        return Reservation(
            instance_id=self._instance_id,
            pid=os.getpid(),
            boot_id=self._boot_id,
            agent_id=agent_id,
            cpus=requests.cpus,
            mem_bytes=requests.memory_bytes,
            reserved_at=int(self._wall() * 1000),
            pid_started=_started(os.getpid()),
        )

    def claim(self, pool: str, cap: ResourceCap, agents: Mapping[str, ResourceSpec]) -> None:
        """Shares of agents that outlived our former process are ours again, whatever became
        of their rows; nothing is checked, because they run already."""
        with self._opened(pool, cap) as book:
            book.reservations = [
                row
                for row in book.reservations
                if not (row.instance_id == self._instance_id and row.agent_id in agents)
            ]
            book.reservations += [self._row(*one) for one in agents.items()]

    def reap(self, pool: str) -> int:
        """Drop rows of dead processes and earlier boots; how many there were."""
        path = self._path(pool)
        if not path.exists():
            return 0
        with _locked(path.with_suffix(".lock"), self._wall):
            book = self._read(path, None)
            alive = [row for row in book.reservations if not self._dead(row)]
            n_dead = len(book.reservations) - len(alive)
            if n_dead:
                book.reservations = alive
                self._write(path, book)
        return n_dead

    def release(self, pool: str, agent_id: str) -> None:
        """Give a share back; harmless when there is none."""
        self._remove(pool, lambda row: row.agent_id == agent_id)

    def release_all(self, pools: list[str]) -> None:
        for pool in pools:
            self._remove(pool, lambda _: True)

    def _remove(self, pool: str, which: Callable[[Reservation], bool]) -> None:
        try:
            if not self._path(pool).exists():
                return
            with self._opened(pool, None) as book:
                book.reservations = [
                    row
                    for row in book.reservations
                    if not (row.instance_id == self._instance_id and which(row))
                ]
        except LedgerBroken:
            # Our rows are dropped as dead by whoever opens the ledger next.
            return

    @contextmanager
    def _opened(self, pool: str, cap: ResourceCap | None) -> Iterator[Book]:
        """The book under its lock, without dead rows; written back at the end."""
        path = self._path(pool)
        with _locked(path.with_suffix(".lock"), self._wall):
            book = self._read(path, cap)
            book.reservations = [row for row in book.reservations if not self._dead(row)]
            self._settle_cap(path, book, cap)
            try:
                yield book
            finally:
                self._write(path, book)

    def _path(self, pool: str) -> Path:
        if not pool or pool in (".", "..") or "/" in pool or "\0" in pool:
            raise LedgerBroken(f"machine pool {pool!r} cannot be a file name")
        if self._directory is None:
            self._directory = _directory(self._chosen)
        return self._directory / f"{pool}.json"

    def _read(self, path: Path, cap: ResourceCap | None) -> Book:
        try:
            book = msgspec.json.decode(path.read_bytes(), type=Book)
        except FileNotFoundError:
            return Book(version=1, cap=_cap(cap), reservations=[])
        except (OSError, msgspec.DecodeError) as error:
            raise LedgerBroken(f"{path}: {error}") from error
        if book.version != 1:
            raise LedgerBroken(f"{path}: version {book.version} is not 1")
        return book

    def _settle_cap(self, path: Path, book: Book, cap: ResourceCap | None) -> None:
        """All who share a pool must have the same cap; alone we may change it (a reload)."""
        if cap is None or book.cap == _cap(cap):
            return
        if any(row.instance_id != self._instance_id for row in book.reservations):
            raise LedgerBroken(f"{path}: another process uses another cap; delete it to change")
        book.cap = _cap(cap)

    def _write(self, path: Path, book: Book) -> None:
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(book), indent=2))
            temporary.replace(path)
        except OSError as error:
            raise LedgerBroken(f"{path}: {error}") from error

    def _dead(self, row: Reservation) -> bool:
        """Of another boot, or of a process that is gone; a foreign row without a start time
        is the reference's and stays (S59)."""
        if row.boot_id != self._boot_id:
            return True
        if not self._alive(row.pid):
            return row.instance_id == self._instance_id or isinstance(row.pid_started, str)
        return isinstance(row.pid_started, str) and _started(row.pid) not in (
            None,
            row.pid_started,
        )


def _cap(cap: ResourceCap | None) -> Cap:
    return Cap(cap.max_cpu, cap.max_memory_bytes) if cap is not None else Cap()


@contextmanager
def _locked(lock: Path, wall: Callable[[], float]) -> Iterator[None]:
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
        lock.rmdir()


def _is_stale(lock: Path, wall: Callable[[], float]) -> bool:
    """Remove a lock that its process left behind; True when the next try may succeed."""
    try:
        if wall() - lock.stat().st_mtime <= STALE_LOCK_S:
            return False
        lock.rmdir()
    except OSError:
        return False
    return True


def _directory(chosen: str | None) -> Path:
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


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _started(pid: int) -> str | None:
    """When ``pid`` began, in the kernel's words; None where nobody tells."""
    found = processes.look(pid)
    return None if found is None else found.started
