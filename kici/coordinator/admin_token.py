"""The bearer token of the HTTP API: made on the first start, kept in a file of mode 0600."""

import secrets
from pathlib import Path

from kici.errors import ConfigError, Problem
from kici.shell.durable import write_atomic

FILE_NAME = "admin-token"


def admin_token(data_dir: str | Path) -> str:
    """The token, made now when there is none. ``ConfigError`` when it cannot be kept."""
    path = Path(data_dir) / FILE_NAME
    try:
        if not path.exists():
            write_atomic(path, f"kici_admin_{secrets.token_hex(32)}\n".encode())
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        raise ConfigError([Problem(str(path), f"cannot be used: {error}")]) from error
    if not token:
        raise ConfigError([Problem(str(path), "is empty; delete it to get a new token")])
    return token
