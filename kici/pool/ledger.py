"""The machine pool's ledger, shared by all workers of this machine (scaler spec 2.7).

What one file looks like and who may open it is ``ledger_file.py``'s.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from kici.config.model import ResourceCap, ResourceSpec
from kici.pool.ledger_file import (
    Book,
    Cap,
    LedgerBroken,
    Reservation,
    exists,
    ledger_directory,
    locked,
)
from kici.shell import processes


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
        if not exists(path):
            return 0
        with locked(path.with_suffix(".lock"), self._wall):
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
            if not exists(self._path(pool)):
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
        with locked(path.with_suffix(".lock"), self._wall):
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
            self._directory = ledger_directory(self._chosen)
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
