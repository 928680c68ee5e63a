"""Labels that a label set gets by itself, and its gate (scaler spec 2.2, 7.1).

Pure: the host is passed in. Names of systems and architectures are Node's, as on the wire.
"""

import os
import platform
import shutil
from collections.abc import Iterable, Sequence

import msgspec

_OS = {"linux": "linux", "darwin": "darwin", "windows": "win32"}
_ARCH = {
    "x86_64": "x64",
    "amd64": "x64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "i386": "ia32",
    "i686": "ia32",
    "armv6l": "arm",
    "armv7l": "arm",
    "armv8l": "arm",
    "ppc64le": "ppc64",
    "loongarch64": "loong64",
}
_OS_LABELS = {"darwin": ("macos", "darwin"), "win32": ("windows", "win32")}
_ARCH_LABELS = {"x64": ("x64", "amd64")}
#: ``platform.os`` of the configuration to the system's name.
PLATFORM_OS = {"linux": "linux", "macos": "darwin", "windows": "win32"}
_OS_TAINTS = {"darwin": "macos", "win32": "windows"}
_ARCH_TAINTS = {"arm64": "arm64"}
#: Plain labels that taint their own label set when no platform is declared.
LEGACY_TAINTS = frozenset({"windows", "win32", "macos", "darwin", "arm64", "aarch64", "arm"})
#: ``nft`` lives in a directory that a user's PATH often lacks.
_TOOL_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
ALL_ROLES = ("builder", "init-runner")


class Host(msgspec.Struct, frozen=True):
    """A system (``linux darwin win32`` …) and an architecture (``x64 arm64 arm`` …)."""

    os: str
    arch: str
    #: Whether container networks can be isolated.
    has_nft: bool = True


def this_host() -> Host:
    system = platform.system().lower()
    machine = platform.machine().lower()
    found = _OS.get(system, system), _ARCH.get(machine, machine)
    return Host(*found, has_nft=shutil.which("nft", path=_TOOL_PATH) is not None)


def host_of(kind: str, declared: Host | None, host: Host) -> Host:
    """Where agents of a scaler run: as declared, else here; containers and VMs run Linux."""
    if declared is not None:
        return declared
    return host if kind == "bare-metal" else Host("linux", host.arch)


def taints_of(kind: str, declared: Host | None, host: Host) -> tuple[str, ...]:
    """Gate labels of the whole scaler that come from its platform."""
    if declared is None and kind != "bare-metal":
        return ()
    place = declared or host
    taints = (_OS_TAINTS.get(place.os), _ARCH_TAINTS.get(place.arch))
    return tuple(taint for taint in taints if taint)


def legacy_taints(labels: Iterable[str]) -> tuple[str, ...]:
    return tuple(label for label in labels if label in LEGACY_TAINTS)


def enriched(
    labels: Sequence[str],
    kind: str,
    name: str,
    roles: Sequence[str] | None,
    place: Host,
    taints: Sequence[str],
) -> tuple[str, ...]:
    """What the set is matched and advertised with: configured labels first, no repetition."""
    extra = [f"kici:os:{label}" for label in _OS_LABELS.get(place.os, (place.os,))]
    extra += [f"kici:arch:{label}" for label in _ARCH_LABELS.get(place.arch, (place.arch,))]
    extra += identity(kind, name, roles)
    return tuple(dict.fromkeys(label.lower() for label in (*labels, *extra, *taints)))


def agent_labels(
    labels: Sequence[str], kind: str, name: str, roles: Sequence[str] | None, taints: Sequence[str]
) -> tuple[str, ...]:
    """``KICI_LABELS`` of an agent: it adds its OS, architecture and host itself (S42)."""
    return tuple(dict.fromkeys((*labels, *identity(kind, name, roles), *taints)))


def identity(kind: str, name: str, roles: Sequence[str] | None) -> list[str]:
    known = ALL_ROLES if roles is None else roles
    return [f"kici:agent:{kind}", f"kici:scaler:{name}", *(f"kici:role:{role}" for role in known)]


def overlap_key(labels: Iterable[str]) -> str:
    """Two scalers may not have label sets of the same key (scaler spec 1.6)."""
    return ",".join(sorted({label.lower() for label in labels}))
