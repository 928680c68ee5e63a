"""Long-lived agent tokens in a file of hashes (agent spec 1.7, [REC]).

``settings.agent_tokens_file`` holds one JSON object a line:
``{"id", "sha256", "prefix", "labels", "note", "createdAt"}``. The token itself is shown once,
when ``kici-worker token create`` makes it, and stored nowhere. ``labels`` null allows any.
"""

import hashlib
import logging
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from kici.errors import ConfigError, Problem
from kici.pool.seam import TokenGrant
from kici.protocol.labels import canonical
from kici.shell.durable import make_directory, write_atomic

_log = logging.getLogger(__name__)
#: Characters of a token that may be shown to tell it from others (1.7).
_PREFIX_CHARACTERS = 12


class StaticToken(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One line of the file."""

    id: str
    sha256: str
    prefix: str = ""
    labels: tuple[str, ...] | None = None
    note: str = ""
    created_at: float = 0.0


class StaticTokens:
    """Owns: nothing; reads the file again whenever it changed."""

    def __init__(self, path: str | None) -> None:
        self._path = Path(path) if path else None
        self._seen: tuple[int, int, int] | None = None
        self._rows: dict[str, StaticToken] = {}

    def verify(self, token: str) -> TokenGrant | None:
        """The grant of a token in the file; None when it is not there."""
        self._refresh()
        row = self._rows.get(_hash(token))
        if row is None:
            return None
        return TokenGrant(token_id=row.id, kind="static", labels=row.labels)

    def exist(self) -> bool:
        """Whether somebody may have one; a file that cannot be read counts."""
        seen = _stamp(self._path)
        return seen is not None and seen[1] > 0

    def _refresh(self) -> None:
        seen = _stamp(self._path)
        if self._path is None or seen == self._seen:
            return
        self._seen = seen
        try:
            rows = [] if seen is None else _read(self._path)
        except (OSError, ConfigError) as error:
            # Tokens that were good stay good; the operator is told, once per change.
            _log.error("Agent token file cannot be used: %s", error)
            return
        self._rows = {row.sha256: row for row in rows}


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    try:
        stat = path.stat() if path else None
    except OSError:
        return None
    return None if stat is None else (stat.st_mtime_ns, stat.st_size, stat.st_ino)


def create_static(
    path: str, labels: Sequence[str] | None, *, note: str = ""
) -> tuple[StaticToken, str]:
    """Add a token to ``path`` (0600) and return its row and its text, the SECRET.

    ``labels`` None allows an agent any label. ``ConfigError`` when the file is unusable.
    """
    token = "kat_" + secrets.token_hex(32)
    row = StaticToken(
        id=secrets.token_hex(8),
        sha256=_hash(token),
        prefix=token[:_PREFIX_CHARACTERS],
        labels=None if labels is None else tuple(canonical(label) for label in labels),
        note=note,
        created_at=time.time(),
    )
    _write(path, [*list_static(path), row])
    return row, token


def list_static(path: str) -> list[StaticToken]:
    """The rows of ``path``, none when it does not exist; ``ConfigError`` when it is broken."""
    try:
        return _read(Path(path))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError([Problem(path, f"cannot be read: {error.strerror}")]) from None


def revoke_static(path: str, token_id: str) -> bool:
    """Take a token out of ``path``; False when it is not there."""
    rows = list_static(path)
    left = [row for row in rows if row.id != token_id]
    if len(left) == len(rows):
        return False
    _write(path, left)
    return True


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _read(path: Path) -> list[StaticToken]:
    rows, problems = [], []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            rows.append(msgspec.json.decode(line, type=StaticToken))
        except msgspec.DecodeError as error:
            problems.append(Problem(f"{path}: line {number}", str(error)))
    if problems:
        raise ConfigError(problems)
    return rows


def _write(path: str, rows: Sequence[StaticToken]) -> None:
    lines = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    try:
        make_directory(Path(path).parent)
        write_atomic(path, lines)
    except OSError as error:
        raise ConfigError([Problem(path, f"cannot be written: {error.strerror}")]) from None
