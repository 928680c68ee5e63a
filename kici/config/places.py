"""Directories and small files of a worker (worker-surface 8.1, 8.2, 2.5).

``touch=False`` looks without creating anything: for ``check-config``.
"""

import contextlib
import os
import stat
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path

from kici.shell.durable import make_directory, write_atomic

INSTANCE_ID_FILE = "instance-id"
#: Shown by ``check-config`` before the first start has made one.
NO_INSTANCE_ID_YET = "(made at the first start)"
#: A secret or an id is a line; more is a wrong path (a device, a log).
_SMALL_FILE_BYTES = 64 * 1024


class Unusable(Exception):
    """A place that cannot be used; the text says what was tried and why it failed."""


def home(environ: Mapping[str, str]) -> str:
    return environ.get("HOME") or os.path.expanduser("~")


def expand(path: str, environ: Mapping[str, str]) -> str:
    """A leading ``~`` is ``$HOME`` (W35); the result is absolute."""
    if path == "~" or path.startswith("~/"):
        path = home(environ) + path[1:]
    return os.path.abspath(path)


def data_directory(chosen: str | None, environ: Mapping[str, str], touch: bool = True) -> str:
    """The configured directory, else the first candidate that can be created and written."""
    if chosen is not None:
        usable_directory(chosen, touch)
        return chosen
    state = environ.get("XDG_STATE_HOME") or f"{home(environ)}/.local/state"
    temporary = environ.get("TMPDIR") or tempfile.gettempdir()
    tried = []
    for candidate in ("/var/lib/kici", f"{state}/kici", f"{temporary}/kici-data"):
        try:
            usable_directory(candidate, touch)
        except Unusable as why:
            tried.append(str(why))
        else:
            return candidate
    raise Unusable("expected one directory that can be written, found none: " + "; ".join(tried))


def usable_directory(path: str, touch: bool = True) -> None:
    """Create ``path`` (0700) and prove that it can be written; raise ``Unusable``."""
    if not touch:
        creatable_directory(path)
        return
    try:
        make_directory(path)
        with tempfile.NamedTemporaryFile(dir=path, prefix=".probe-"):
            pass
    except OSError as error:
        raise Unusable(_why(path, error)) from None


def creatable_directory(path: str) -> None:
    """Prove, as well as looking can, that ``path`` exists or can be made, and be written."""
    place = Path(path)
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise Unusable(f"{path}: {place} is not a directory")
    if not os.access(place, os.W_OK | os.X_OK):
        raise Unusable(f"{path}: cannot write in {place}")


def instance_id(data_dir: str, touch: bool = True) -> str:
    """The id kept in the data directory; made once (W37). Raises ``Unusable``."""
    path = Path(data_dir, INSTANCE_ID_FILE)
    kept = read_small(path).strip() if path.exists() else ""
    if kept or not touch:
        return kept or NO_INSTANCE_ID_YET
    made = str(uuid.uuid4())
    try:
        write_atomic(path, made.encode() + b"\n", 0o600)
    except OSError as error:
        raise Unusable(_why(str(path), error)) from None
    return made


def waits_for_nobody(path: str | Path) -> bool:
    """False for what could make us wait for ever or never end: a FIFO, a device. What is not
    there is left to ``open``, which says why."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return True
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def read_small(path: str | Path) -> str:
    """The text of a small file; raises ``Unusable``, which never shows the content."""
    if not waits_for_nobody(path):
        raise Unusable(f"{path}: not a regular file")
    try:
        with open(path, "rb") as file:
            content = file.read(_SMALL_FILE_BYTES + 1)
    except OSError as error:
        raise Unusable(_why(str(path), error)) from None
    if len(content) > _SMALL_FILE_BYTES:
        raise Unusable(f"{path}: larger than {_SMALL_FILE_BYTES} bytes")
    with contextlib.suppress(UnicodeDecodeError):
        return content.decode()
    raise Unusable(f"{path}: not UTF-8 text")


def _why(path: str, error: OSError) -> str:
    return f"{path}: {error.strerror or error}"
