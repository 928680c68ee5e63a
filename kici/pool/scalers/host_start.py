"""Environment and command of an agent on this machine, without doing it (scaler spec 4.2-4.4)."""

import math
import shutil
from collections.abc import Mapping

from kici.config.model import ResourceSpec
from kici.pool.scalers.base import LaunchSpec
from kici.shell.host import is_linux

#: What an agent inherits from the worker; nothing else, so no secret of the worker (S114).
INHERITED = (
    "PATH", "HOME", "USER", "SHELL", "LANG", "LC_ALL", "TERM", "TMPDIR", "NODE_PATH", "TZ",
)  # fmt: skip
#: ``NAME=<owner>/<agent id>`` marks all that an agent starts, as far as it hands its
#: environment on. Not a KICI_* name: the real agent refuses those that it does not know.
MARK = "KICIWORKER_AGENT"
#: What ``systemd-run --user`` needs to find its bus (scaler spec 4.4, R).
_BUS = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")


def agent_environment(
    spec: LaunchSpec, environ: Mapping[str, str], *, owner: str, scratch: str
) -> dict[str, str]:
    """4.2 in its order, later wins. ``scratch`` becomes TMPDIR, so that what the agent
    leaves behind goes with it; a label set's own TMPDIR wins."""
    found = {name: environ[name] for name in INHERITED if name in environ}
    found["TMPDIR"] = scratch
    found |= {"KICI_EXECUTION_MODE": "bare-metal", "KICI_PORT": "0", "KICI_SCALER_MANAGED": "1"}
    found |= spec.env
    if spec.label_set.backpressure_mode:
        found["KICI_BACKPRESSURE_MODE"] = spec.label_set.backpressure_mode
    found |= spec.label_set.env
    found[MARK] = mark_value(owner, spec.agent_id)
    return found


def mark_value(owner: str, agent_id: str) -> str:
    return f"{owner}/{agent_id}"


def find_binary(path: str | None, environ: Mapping[str, str]) -> str:
    """Empty when ``path`` can be started, else why not."""
    if not path:
        return "binaryPath is not set"
    if shutil.which(path, path=environ.get("PATH")) is None:
        return f"agent binary {path} is missing or not executable"
    return ""


def scope_command(agent_id: str, binary: str, limits: ResourceSpec, *, user: bool) -> list[str]:
    """The command of 4.4; root has no user manager and asks the system's."""
    command = ["systemd-run", *(["--user"] if user else []), "--scope", "--quiet"]
    command += ["--slice=kici-scaler", f"--unit=kici-agent-{agent_id}"]
    if limits.cpus > 0:
        # Halves up, as the reference rounds.
        command.append(f"--property=CPUQuota={max(1, math.floor(limits.cpus * 100 + 0.5))}%")
    if limits.memory_bytes > 0:
        command.append(f"--property=MemoryMax={limits.memory_bytes}")
    return [*command, binary]


def wants_scope(spec: LaunchSpec) -> bool:
    """S120: only with ``enforceCgroups``, a positive limit, and on Linux."""
    limits = spec.limits
    limited = limits is not None and (limits.cpus > 0 or limits.memory_bytes > 0)
    return spec.scaler.enforce_cgroups and limited and is_linux()


def bus_environment(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: environ[name] for name in _BUS if name in environ}
