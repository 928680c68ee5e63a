"""The keys of ``scalers.yaml``: scaler spec 1.3 and 7.1, both versions' keys.

What a key means for other keys is in ``scaler_rules.py``.
"""

from typing import Any

from kici.config.schema import (
    INVALID,
    Key,
    Report,
    boolean,
    choice,
    integer,
    list_of,
    mapping,
    nonempty,
    number,
    shown,
    string,
    text_map,
)
from kici.config.units import is_host_access, memory_bytes

RESERVED_PREFIX = "kici:"
TYPES = ("container", "bare-metal", "firecracker", "event")
MAX_CPUS = 256


def version(value: Any, path: str, report: Report) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool) and value == 1:
        return 1
    return report.problem(path, f"expected the number 1, found {shown(value)}")


def label(value: Any, path: str, report: Report) -> Any:
    """Trimmed and lower-cased as in 0.9.1; a comma would break ``KICI_LABELS``."""
    text = string(value, path, report)
    if text is INVALID:
        return INVALID
    canonical = text.strip().lower()
    if not canonical or "," in canonical:
        return report.problem(path, f"expected a label without comma, found {shown(value)}")
    return canonical


def _labels(minimum: int) -> Any:
    check_list = list_of(label, minimum)

    def check(value: Any, path: str, report: Report) -> Any:
        labels = check_list(value, path, report)
        for reserved in [each for each in labels or () if each.startswith(RESERVED_PREFIX)]:
            report.problem(
                path, f"labels starting with {RESERVED_PREFIX} are reserved: {reserved!r}"
            )
        return labels

    return check


def memory(value: Any, path: str, report: Report) -> Any:
    text = string(value, path, report)
    try:
        return INVALID if text is INVALID else memory_bytes(text)
    except ValueError:
        return report.problem(path, f"expected a size like 512m or 1.5g, found {shown(value)}")


def host_access_rule(value: Any, path: str, report: Report) -> Any:
    text = string(value, path, report)
    if text is INVALID or is_host_access(text):
        return text
    return report.problem(
        path,
        "expected <IPv4 address, IPv4 CIDR or *>[:<port or *>], or a port (no host names), "
        f"found {shown(value)}",
    )


_SPEC_KEYS = {"cpus": Key(number(0, MAX_CPUS)), "memory": Key(memory)}
_spec = mapping(_SPEC_KEYS, strict=True)
_nested = mapping({"requests": Key(_spec), "limits": Key(_spec)}, strict=True)


def resources(value: Any, path: str, report: Report) -> Any:
    """Nested ``{requests, limits}``, or flat: the same for both. Never mixed."""
    if not isinstance(value, dict):
        return report.problem(path, f"expected a mapping, found {shown(value)}")
    flat = any(key in _SPEC_KEYS for key in value)
    if flat and ("requests" in value or "limits" in value):
        return report.problem(path, "expected cpus/memory or requests/limits, found both")
    if not flat:
        return _nested(value, path, report)
    spec = _spec(value, path, report)
    return {"requests": spec, "limits": spec}


resource_cap = mapping({"maxCpu": Key(number(0)), "maxMemory": Key(memory)}, strict=True)
_pool = mapping(
    {"name": Key(nonempty, required=True), "cap": Key(resource_cap, required=True)}, strict=True
)
_warm_pool = mapping(
    {
        "enabled": Key(boolean, default=False),
        "size": Key(integer(0), default=0),
        "idleTimeoutSeconds": Key(number(), default=300.0),
    },
    strict=False,
)
_network_policy = mapping(
    {
        "allowlist": Key(list_of(string), default=[]),
        "denyAll": Key(boolean, default=False),
        "hostAccess": Key(list_of(host_access_rule)),
    },
    strict=False,
)
_platform = mapping(
    {
        "os": Key(choice("linux", "macos", "windows"), required=True),
        "arch": Key(choice("x64", "arm64"), required=True),
    },
    strict=True,
)
_label_set = mapping(
    {
        "labels": Key(_labels(1), required=True),
        "resources": Key(resources),
        "env": Key(text_map, default={}),
        "backpressureMode": Key(choice("pause", "drop")),
        "networkPolicy": Key(_network_policy),
        "image": Key(string),
        "imagePullPolicy": Key(choice("Always", "IfNotPresent", "Never"), default="IfNotPresent"),
        "volumes": Key(list_of(string), default=[]),
        "containerSocket": Key(boolean, default=False),
        "binaryPath": Key(string),
        "rootfsPath": Key(string),
        "kernelPath": Key(string),
        "vcpuCount": Key(integer(1)),
        "memSizeMib": Key(integer(1)),
        "overlayDriveSizeMib": Key(integer(1)),
    },
    strict=True,
)
_scaler = mapping(
    {
        "name": Key(nonempty, required=True),
        "type": Key(choice(*TYPES), required=True),
        "maxAgents": Key(integer(1), required=True),
        "labelSets": Key(list_of(_label_set, 1), required=True),
        "mandatoryLabels": Key(_labels(0), default=[]),
        "roles": Key(list_of(choice("builder", "init-runner", "all"))),
        "warmPool": Key(_warm_pool),
        "orchestratorUrl": Key(string),
        "resourceCap": Key(resource_cap),
        "machinePool": Key(string),
        "host": Key(string),
        "socketPath": Key(string),
        "runtime": Key(choice("docker", "podman", "auto"), default="auto"),
        "extraHosts": Key(list_of(string), default=[]),
        "networkIsolation": Key(boolean, default=True),
        "enforceCgroups": Key(boolean, default=False),
        "firecrackerPath": Key(string),
        "jailerPath": Key(string),
        "kernelPath": Key(string),
        "chrootBaseDir": Key(string),
        "uid": Key(integer()),
        "gid": Key(integer()),
        "vcpuCount": Key(integer(1)),
        "memSizeMib": Key(integer(1)),
        "requireSudo": Key(boolean),
        "maxConcurrentSpawns": Key(integer(1), default=8),
        "platform": Key(_platform),
        "provisioningTargets": Key(list_of(nonempty)),
        "claimTtlSeconds": Key(integer(1)),
        "agentTokenTtlSeconds": Key(integer(1)),
    },
    strict=True,
)
_firecracker = mapping(
    {
        **{key: Key(string) for key in ("cidr", "bridgeName", "gateway", "netmask", "table")},
        "autoProvisionHost": Key(boolean),
    },
    strict=False,
)
document = mapping(
    {
        "version": Key(version, required=True),
        "globalMaxAgents": Key(integer(1), default=50),
        "globalResourceCap": Key(resource_cap),
        "machinePools": Key(list_of(_pool), default=[]),
        "defaults": Key(mapping({"resources": Key(resources)}, strict=False)),
        "scalers": Key(list_of(_scaler), required=True),
        "firecracker": Key(_firecracker),
    },
    strict=False,
)
