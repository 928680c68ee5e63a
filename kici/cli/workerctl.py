"""``kici-workerctl``: supervisorctl on the worker's private socket.

    kici-workerctl status | start NAME | stop NAME | restart NAME | pid NAME | shutdown

Needs ``KICI_RUNTIME_DIR`` (or ``KICI_DATA_DIR``) as the worker has it, nothing else. Exit
codes are supervisorctl's: 0, 3 when a child does not run, 4 when there is no worker.
"""

import os
import sys
from typing import NoReturn

from supervisor import supervisorctl
from supervisor.options import ClientOptions

from kici.config import places

#: Kept in step with kici/supervisor/rpc.py, whose import would bring the server along.
_SOCKET_NAME = "supervisor.sock"
#: As supervisorctl says "not running" (LSB).
_EXIT_NO_WORKER = 4


class _Options(ClientOptions):
    """No configuration file is looked for: the socket is the only thing to know."""

    prompt = "kici-worker"

    def default_configfile(self) -> None:
        return None


def _socket_path() -> str:
    runtime_dir = os.environ.get("KICI_RUNTIME_DIR")
    if not runtime_dir:
        data_dir = places.data_directory(os.environ.get("KICI_DATA_DIR"), os.environ, False)
        runtime_dir = os.path.join(data_dir, "run")
    return os.path.join(places.expand(runtime_dir, os.environ), _SOCKET_NAME)


def main() -> NoReturn:
    try:
        path = _socket_path()
    except places.Unusable as error:
        print(f"kici-workerctl: {error}", file=sys.stderr)
        sys.exit(_EXIT_NO_WORKER)
    if not os.access(path, os.R_OK | os.W_OK):
        why = "not permitted" if os.path.exists(path) else "no worker runs there"
        print(f"kici-workerctl: {path}: {why}", file=sys.stderr)
        sys.exit(_EXIT_NO_WORKER)
    arguments = sys.argv[1:] or ["status"]
    supervisorctl.main(args=["-s", f"unix://{path}", *arguments], options=_Options())
    sys.exit(0)
