"""Log files of ``KICI_LOG_DIR``: ``orchestrator[-<instance>]-YYYY-MM-DD.log`` (spec 5.5).

All processes of a worker append to the same file; each line is one ``write``. Whoever finds
it too large renames it, under a lock; the others notice by its inode and open the new one.
Renamed and past files are compressed, and deleted after the retention time.
"""

import contextlib
import fcntl
import gzip
import logging
import os
import re
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")
_DATED = re.compile(r"-\d{4}-\d\d-\d\d\.log(\.\d+)?(\.gz)?\Z")
_DAY_S = 86_400.0
#: Size-rotated files of one day; beyond it the last name is used again.
_MAX_PER_DAY = 10_000
#: Deletions not yet told: the rest of a long list says nothing new.
_MAX_NOTICES = 100
#: A sibling may still write into a file that was just renamed: leave it alone for a while.
_SETTLED_S = 60.0


class DailyFile(logging.Handler):
    """Owns: this process's descriptor of today's file. Told by: ``logging``.

    A full disk or a vanished directory loses lines and never raises.
    """

    def __init__(
        self,
        directory: str,
        instance: str,
        *,
        max_bytes: int,
        retention_days: float,
        total_bytes: int = 0,
    ) -> None:
        super().__init__()
        self._directory = Path(directory)
        self._stem = _stem(instance)
        self._max_bytes = max_bytes
        self._retention_s = retention_days * _DAY_S
        self._total_bytes = total_bytes
        #: What was deleted and why, from the tidying thread: written with the next line.
        self._notices: deque[str] = deque(maxlen=_MAX_NOTICES)
        self._day = ""
        self.stream: object = _Closed()
        self._fd = -1

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._append(record)
            while self._notices:
                text = self._notices.popleft()
                self._append(logging.LogRecord("kici.log", logging.INFO, "", 0, text, (), None))
        except OSError:
            self._close_file()  # try afresh with the next line
        except Exception:  # noqa: BLE001 (a log call never breaks its caller)
            self.handleError(record)

    def _append(self, record: logging.LogRecord) -> None:
        line = (self.format(record) + "\n").encode("utf-8", "backslashreplace")
        self._open_for(record.created, len(line))
        os.write(self._fd, line)

    def close(self) -> None:
        self._close_file()
        super().close()

    def path(self, day: str) -> Path:
        return self._directory / f"{self._stem}-{day}.log"

    def _open_for(self, at: float, n_bytes: int) -> None:
        """Have the right file open, with room for ``n_bytes``."""
        day = time.strftime("%Y-%m-%d", time.gmtime(at))
        path = self.path(day)
        if day != self._day or not self._is_current(path):
            new_day, self._day = day != self._day, day
            self._reopen(path)
            if new_day:
                _in_background(self._tidy)
        if os.fstat(self._fd).st_size + n_bytes > self._max_bytes:
            self._rotate(path)
            self._reopen(path)
            _in_background(self._tidy)

    def _is_current(self, path: Path) -> bool:
        try:
            return self._fd >= 0 and os.path.samestat(os.fstat(self._fd), os.stat(path))
        except FileNotFoundError:
            return False

    def _reopen(self, path: Path) -> None:
        self._close_file()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o640)
        self.stream = _Open(self._fd)

    def _close_file(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
        self._fd, self.stream = -1, _Closed()

    def _rotate(self, path: Path) -> None:
        """Rename today's file, unless another process just did."""
        with _locked(self._directory / f".{self._stem}.lock"):
            if not self._is_current(path) or os.fstat(self._fd).st_size == 0:
                return
            for number in range(1, _MAX_PER_DAY):
                target = path.with_name(f"{path.name}.{number}")
                if not target.exists() and not target.with_name(f"{target.name}.gz").exists():
                    break
            os.replace(path, target)

    def _tidy(self) -> None:
        """Compress what is settled, delete what is old; one process at a time."""
        now = time.time()
        with _locked(self._directory / f".{self._stem}.tidy", wait=False) as mine:
            if not mine:
                return
            for entry in _dated(self._directory, self._stem):
                age = now - entry.stat().st_mtime
                if age > self._retention_s:
                    days = self._retention_s / _DAY_S
                    self._delete(entry, f"KICI_LOG_RETENTION_DAYS is {days:g}")
                elif entry.suffix != ".gz" and entry != self.path(self._day) and age > _SETTLED_S:
                    _compress(entry)
            if self._total_bytes:
                self._shrink()

    def _shrink(self) -> None:
        """Delete the oldest beyond the bound of all; today's file stays."""
        found = [(entry, entry.stat()) for entry in _dated(self._directory, self._stem)]
        total = sum(stat.st_size for _entry, stat in found)
        for entry, stat in sorted(found, key=lambda one: one[1].st_mtime):
            if total <= self._total_bytes:
                return
            if entry != self.path(self._day):
                self._delete(entry, f"KICI_LOG_TOTAL_MAX is {self._total_bytes} bytes")
                total -= stat.st_size

    def _delete(self, entry: Path, why: str) -> None:
        entry.unlink(missing_ok=True)
        self._notices.append(f"Deleted log file {entry.name}: {why}")


def log_files(directory: str, instance: str) -> list[Path]:
    """Every log file of ``instance`` in ``directory``: today's, older and compressed ones."""
    return _dated(Path(directory), _stem(instance))


def _stem(instance: str) -> str:
    return f"orchestrator-{_UNSAFE.sub('_', instance)}" if instance else "orchestrator"


def _dated(directory: Path, stem: str) -> list[Path]:
    found = sorted(directory.glob(f"{stem}-*"))
    return [entry for entry in found if _DATED.fullmatch(entry.name[len(stem) :])]


def _compress(path: Path) -> None:
    """``path`` becomes ``path.gz`` with its time; an interruption leaves the original."""
    stat = path.stat()
    unfinished = path.with_name(f".{path.name}.gz")
    with open(path, "rb") as source, gzip.open(unfinished, "wb", 6) as target:
        shutil.copyfileobj(source, target, 256 * 1024)
    os.chmod(unfinished, stat.st_mode & 0o777)
    os.utime(unfinished, (stat.st_atime, stat.st_mtime))
    os.replace(unfinished, path.with_name(f"{path.name}.gz"))
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path, wait: bool = True):  # type: ignore[no-untyped-def]
    """Hold ``path`` locked; yields False when another holds it and ``wait`` is False."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


def _in_background(work: Callable[[], None]) -> None:
    """Run in a real thread, also in a gevent process: compressing blocks for seconds.

    Not in a process that forks: a thread would be lost, or found half-way, in the child.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and not monkey.is_module_patched("threading"):
        return  # the supervisor; its children do it
    start = monkey.get_original("_thread", "start_new_thread") if monkey else None
    if start is None:
        from _thread import start_new_thread as start
    start(_quietly, (work,))


def _quietly(work: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):  # a full disk, a vanished directory: next time
        work()


class _Open:
    """What the supervisor looks for when it decides which descriptors a child keeps."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd


class _Closed:
    def fileno(self) -> int:
        raise OSError("no file is open")
