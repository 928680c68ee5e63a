"""The worker's variables as its unit sees them: an operator's shell does not have them."""

import os
import shlex
from collections.abc import Mapping

from kici.cli.verbs import Failed

#: Where the Debian package puts them.
DEFAULT_FILE = "/etc/kici/worker.env"


def worker_environment(environ: Mapping[str, str], path: str | None) -> dict[str, str]:
    """``environ`` over the variables of ``path``.

    The default file is left out when it cannot be read or when the shell is already set up
    for a worker; a file that was asked for must be readable. Raises ``Failed``.
    """
    if path is None:
        if "KICI_CLUSTER_ROLE" in environ or not os.access(DEFAULT_FILE, os.R_OK):
            return dict(environ)
        path = DEFAULT_FILE
    try:
        with open(path, encoding="utf-8") as file:
            return {**parse(file.read()), **environ}
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise Failed(f"{path}: not UTF-8 at byte {error.start}") from None


def unread(environ: Mapping[str, str], path: str | None) -> str | None:
    """Why ``worker_environment`` left the default file out, when that may be what is missing;
    None when a file was read or the shell is set up for a worker."""
    if path is not None or "KICI_CLUSTER_ROLE" in environ or os.access(DEFAULT_FILE, os.R_OK):
        return None
    if os.path.exists(DEFAULT_FILE):
        return f"{DEFAULT_FILE} was not read: this user may not; try sudo"
    return f"there is no {DEFAULT_FILE}: set KICI_* variables, or name their file by --env-file"


def parse(text: str) -> dict[str, str]:
    """``KEY=value`` lines as systemd's EnvironmentFile reads them (quotes, comments)."""
    found = {}
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line[0] in "#;" or "=" not in line:
            continue
        name, _, value = line.partition("=")
        found[name.removeprefix("export ").strip()] = _unquoted(value.strip())
    return found


def _unquoted(value: str) -> str:
    if value[:1] in ("'", '"'):
        try:
            return "".join(shlex.split(value))
        except ValueError:
            return value
    return value
