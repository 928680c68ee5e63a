"""What ``agent.register`` says about this machine (agent spec 2.2.2, 5.4)."""

import contextlib
import os
import platform
import pwd
import socket
import sys
from typing import Any

import kici
from kici.agent.settings import AgentSettings

_ARCH = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64", "armv7l": "arm"}
_OS_LABELS = {"linux": ("linux",), "darwin": ("macos", "darwin")}
_ARCH_LABELS = {"x64": ("x64", "amd64"), "arm64": ("arm64",)}

#: Announced by stand-alone agents; a scaler's label set must name it itself, because
#: labels outside the token's scope are refused (1.6 gate 1).
NATIVE_LABEL = "runtime:native"


def node_arch() -> str:
    machine = platform.machine().lower()
    return _ARCH.get(machine, machine)


def labels(settings: AgentSettings) -> tuple[str, ...]:
    """Configured labels first, then the automatic ones, without duplicates (A87)."""
    system, arch = sys.platform, node_arch()
    automatic = [
        *(f"kici:os:{name}" for name in _OS_LABELS.get(system, (system,))),
        *(f"kici:arch:{name}" for name in _ARCH_LABELS.get(arch, (arch,))),
        f"kici:host:{socket.gethostname()}",
        *(f"kici:role:{role}" for role in settings.roles),
    ]
    native = () if settings.scaler_managed else (NATIVE_LABEL,)
    return tuple(dict.fromkeys([*settings.labels, *native, *automatic]))


def register_facts(settings: AgentSettings) -> dict[str, Any]:
    """Optional fields of ``agent.register``; what cannot be found out is left out."""
    name = os.uname()
    facts: dict[str, Any] = {
        "platform": sys.platform,
        "arch": node_arch(),
        "version": kici.__version__,
        "hostname": socket.gethostname(),
        "os_release": name.release,
        "os_version": name.version,
        "running_as_uid": os.getuid(),
        "cpu_count": os.cpu_count() or 1,
        "properties": settings.properties or None,
    }
    with contextlib.suppress(KeyError):
        facts["running_as_user"] = pwd.getpwuid(os.getuid()).pw_name
    with contextlib.suppress(ValueError, OSError):
        n_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        facts["total_memory_mb"] = n_bytes // 2**20
    return facts
