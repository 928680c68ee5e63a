"""One SQLite file: WAL, fsync on commit, one connection per process.

Writes collect in one open transaction: ``commit`` makes them durable, at once for promises
(tokens, acceptances, ends of jobs) and within ``BATCH_S`` for logs and step updates, so that
2,000 chatty workers do not cost 2,000 fsyncs a second.
"""

import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kici.coordinator.schema import MIGRATIONS, SCHEMA, SCHEMA_VERSION
from kici.errors import ConfigError, KiciError, Problem
from kici.shell.durable import PRIVATE_FILE, make_directory

FILE_NAME = "coordinator.db"
#: How long what is not a promise may wait for its commit.
BATCH_S = 0.1
#: How long a write of ``kici-admin`` on the same file may hold us up.
BUSY_TIMEOUT_S = 5.0


class StoreError(KiciError):
    """The database refused; nothing since the last commit is kept."""


class Store:
    """Owns: the connection and its open transaction. Told by: every writer of this process."""

    def __init__(self, data_dir: str | Path, wall: Callable[[], int]) -> None:
        """Open or create the file. ``wall`` gives epoch milliseconds. ``ConfigError`` when
        the directory or the file cannot be used."""
        self.wall = wall
        self.path = Path(data_dir) / FILE_NAME
        try:
            make_directory(data_dir)
            # Created by us first, so that its mode is right from the first byte on.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, PRIVATE_FILE))
            self._db = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            raise ConfigError([Problem(str(self.path), f"cannot be used: {error}")]) from error
        self.dirty = False
        #: Called when a transaction is opened: somebody must commit it soon.
        self.on_begin: Callable[[], None] = lambda: None
        #: Called after each commit (True) or rollback (False) of a transaction.
        self.on_outcome: Callable[[bool], None] = lambda _: None
        self._seen_version = self._data_version()

    def _prepare(self) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            self._db.execute(f"PRAGMA {pragma}")
        # Deleted sealed payloads shall not linger in free pages.
        self._db.execute("PRAGMA secure_delete=ON")
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found > SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"made by a newer version (schema {found})")
        if found == 0:
            self._db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
            return
        for version in range(found, SCHEMA_VERSION):
            self._db.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[version]} COMMIT;")

    def read(self, sql: str, *values: Any) -> Sequence[sqlite3.Row]:
        """All rows; they include what is not committed yet."""
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(str(error)) from error

    def one(self, sql: str, *values: Any) -> sqlite3.Row | None:
        rows = self.read(sql, *values)
        return rows[0] if rows else None

    def begin(self) -> None:
        """Take the write lock now, so that what is read next stays true until the commit."""
        if self.dirty:
            return
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise StoreError(str(error)) from error
        self.dirty = True
        self.on_begin()

    def write(self, sql: str, *values: Any) -> int:
        """Change rows; how many. Durable after ``commit``."""
        self.begin()
        try:
            return self._db.execute(sql, values).rowcount
        except sqlite3.Error as error:
            self.rollback()
            raise StoreError(str(error)) from error

    def commit(self) -> None:
        """Make everything written so far survive a power cut."""
        if not self.dirty:
            return
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self.rollback()
            raise StoreError(str(error)) from error
        self.dirty = False
        self.on_outcome(True)

    def rollback(self) -> None:
        """Forget what is not committed."""
        self.dirty = False
        if self._db.in_transaction:
            self._db.rollback()
        self.on_outcome(False)

    def changed_elsewhere(self) -> bool:
        """Whether another process (``kici-admin``) committed since the last call."""
        version = self._data_version()
        changed, self._seen_version = version != self._seen_version, version
        return changed

    def close(self) -> None:
        """Commit and close."""
        try:
            self.commit()
        finally:
            self._db.close()

    def _data_version(self) -> int:
        row = self.one("PRAGMA data_version")
        assert row is not None
        return int(row[0])
