"""``kici-workerctl``: supervisorctl on the worker's private socket.

    kici-workerctl status | start NAME | stop NAME | restart NAME | pid NAME | shutdown
    kici-workerctl handover      end now, agents and jobs alive, for the next start to adopt

Needs ``KICI_RUNTIME_DIR`` (or ``KICI_DATA_DIR``) as the worker has it, nothing else. Exit
codes are supervisorctl's: 0, 3 when a child does not run, 4 when there is no worker.
"""

import os
import sys
import time
from typing import NoReturn
from xmlrpc.client import Fault, ServerProxy

from supervisor import supervisorctl
from supervisor.options import ClientOptions
from supervisor.xmlrpc import SupervisorTransport

from kici.config import places

#: Kept in step with kici/supervisor/rpc.py, whose import would bring the server along.
_SOCKET_NAME = "supervisor.sock"
#: As supervisorctl says "not running" (LSB).
_EXIT_NO_WORKER = 4
#: A hand-over takes under two seconds, unless accepted jobs still wait for an agent: they are
#: waited for as long as a drain may take. The service manager's own limit is above that.
_HANDOVER_S = 335.0
_POLL_S = 0.02
_PLACE_HINT = "is KICI_RUNTIME_DIR or KICI_DATA_DIR set as the worker has it?"


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
    if sys.argv[1:2] in (["-h"], ["--help"]):
        print((__doc__ or "").strip())
        sys.exit(0)
    try:
        path = _socket_path()
    except places.Unusable as error:
        print(f"kici-workerctl: {error}", file=sys.stderr)
        sys.exit(_EXIT_NO_WORKER)
    if not os.access(path, os.R_OK | os.W_OK):
        there = os.path.exists(path)
        why = "not permitted" if there else f"no worker runs there ({_PLACE_HINT})"
        print(f"kici-workerctl: {path}: {why}", file=sys.stderr)
        sys.exit(_EXIT_NO_WORKER)
    arguments = sys.argv[1:] or ["status"]
    if arguments[0] == "handover":
        sys.exit(_hand_over(path))
    supervisorctl.main(args=["-s", f"unix://{path}", *arguments], options=_Options())
    sys.exit(0)


def _hand_over(path: str) -> int:
    """Order it and wait for the worker's end; 0, or 1 with the reason on stderr."""
    transport = SupervisorTransport(None, None, f"unix://{path}")
    try:
        with ServerProxy("http://127.0.0.1", transport=transport) as worker:
            pid = worker.supervisor.handOver()
    except (OSError, Fault) as error:  # an older worker does not know the order
        print(f"kici-workerctl: no hand-over: {error}", file=sys.stderr)
        return 1
    deadline = time.monotonic() + _HANDOVER_S
    while time.monotonic() < deadline:
        if _ended(pid):
            return 0
        time.sleep(_POLL_S)
    print("kici-workerctl: the worker did not end", file=sys.stderr)
    return 1


def _ended(pid: int) -> bool:
    """Gone, or only not yet reaped by whoever started it."""
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except ProcessLookupError:
        return True
    except (PermissionError, FileNotFoundError):  # not ours to ask; no /proc (macOS)
        return False
