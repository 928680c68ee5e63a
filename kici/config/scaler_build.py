"""A checked scaler document to the frozen model, with labels enriched and gates set."""

from typing import Any

from kici.config.enrich import Host, agent_labels, enriched, host_of
from kici.config.model import (
    LabelSet,
    MachinePool,
    NetworkPolicy,
    ResourceCap,
    Resources,
    ResourceSpec,
    Scaler,
    ScalerConfig,
    WarmPool,
)
from kici.config.scaler_rules import Entry, declared_platform, entries, label_sets, set_taints
from kici.config.schema import Report

_UNSUPPORTED = {
    "firecracker": "Unsupported scaler type firecracker: this worker starts no virtual machines",
    "event": "Unsupported scaler type event: only a coordinator provisions hosts",
}


def build(document: Entry, host: Host, report: Report) -> ScalerConfig:
    """Needs a document without problems; adds what is odd about it to ``report.warnings``."""
    scalers = tuple(_scaler(path, entry, host, report) for path, entry in entries(document))
    return ScalerConfig(
        global_max_agents=document["globalMaxAgents"],
        global_resource_cap=_cap(document.get("globalResourceCap")),
        machine_pools=tuple(
            MachinePool(name=pool["name"], cap=_cap(pool["cap"]) or ResourceCap())
            for pool in document["machinePools"]
        ),
        default_resources=_resources(document.get("defaults", {}).get("resources")),
        scalers=scalers,
        warnings=tuple(report.warnings),
    )


def _scaler(path: str, entry: Entry, host: Host, report: Report) -> Scaler:
    roles = entry.get("roles")
    normal = None if roles is None or "all" in roles else tuple(dict.fromkeys(roles))
    unsupported = _unsupported(entry)
    if unsupported:
        report.warn(path, unsupported)
    _remark(path, entry, host, report)
    warm = entry.get("warmPool", {})
    return Scaler(
        name=entry["name"],
        type=entry["type"],
        max_agents=entry["maxAgents"],
        label_sets=tuple(
            _label_set(set_path, label_set, entry, normal, host, report)
            for set_path, label_set in label_sets(path, entry)
        ),
        mandatory_labels=tuple(dict.fromkeys(entry["mandatoryLabels"])),
        roles=normal,
        warm_pool=WarmPool(
            enabled=warm.get("enabled", False),
            size=warm.get("size", 0),
            idle_timeout_s=warm.get("idleTimeoutSeconds", 300.0),
        ),
        orchestrator_url=entry.get("orchestratorUrl"),
        resource_cap=_cap(entry.get("resourceCap")),
        machine_pool=entry.get("machinePool"),
        host=entry.get("host"),
        socket_path=entry.get("socketPath"),
        runtime=entry["runtime"],
        extra_hosts=tuple(entry["extraHosts"]),
        network_isolation=entry["networkIsolation"],
        enforce_cgroups=entry["enforceCgroups"],
        max_concurrent_spawns=entry["maxConcurrentSpawns"],
        unsupported=unsupported,
    )


def _unsupported(entry: Entry) -> str | None:
    if entry["type"] == "bare-metal" and not all(
        each.get("binaryPath") for each in entry["labelSets"]
    ):
        return "Unsupported: a bare-metal label set needs binaryPath here, an image is not enough"
    return _UNSUPPORTED.get(entry["type"])


def _remark(path: str, entry: Entry, host: Host, report: Report) -> None:
    if entry["type"] == "container" and entry["networkIsolation"] and not host.has_nft:  # W25
        report.warn(path, "networkIsolation has no effect: there is no nft on this machine")


def _label_set(
    path: str, given: Entry, entry: Entry, roles: tuple[str, ...] | None, host: Host, report: Report
) -> LabelSet:
    kind, name, labels = entry["type"], entry["name"], tuple(given["labels"])
    declared = declared_platform(entry)
    taints = set_taints(entry, given, host)
    if taints and declared is None:
        report.warn(
            path,
            f"only jobs that ask for {', '.join(taints)} come here; declare `platform` "
            "in the scaler to say so",
        )
    if kind == "bare-metal" and "networkPolicy" in given:
        report.warn(f"{path}.networkPolicy", "has no effect on a bare-metal scaler")
    return LabelSet(
        labels=labels,
        enriched=enriched(labels, kind, name, roles, host_of(kind, declared, host), taints),
        gate=tuple(dict.fromkeys((*entry["mandatoryLabels"], *taints))),
        agent_labels=agent_labels(labels, kind, name, roles, taints),
        resources=_resources(given.get("resources")),
        env=dict(given["env"]),
        backpressure_mode=given.get("backpressureMode"),
        network_policy=_network_policy(given.get("networkPolicy")),
        image=given.get("image") or None,
        image_pull_policy=given["imagePullPolicy"],
        volumes=tuple(given["volumes"]),
        container_socket=given["containerSocket"],
        binary_path=given.get("binaryPath") or None,
    )


def _cap(given: dict[str, Any] | None) -> ResourceCap | None:
    if given is None:
        return None
    return ResourceCap(max_cpu=given.get("maxCpu"), max_memory_bytes=given.get("maxMemory"))


def _spec(given: dict[str, Any] | None) -> ResourceSpec | None:
    if given is None:
        return None
    return ResourceSpec(cpus=given.get("cpus", 0.0), memory_bytes=given.get("memory", 0))


def _resources(given: dict[str, Any] | None) -> Resources | None:
    if not given:
        return None
    return Resources(requests=_spec(given.get("requests")), limits=_spec(given.get("limits")))


def _network_policy(given: dict[str, Any] | None) -> NetworkPolicy | None:
    if given is None:
        return None
    rules = given.get("hostAccess")
    return NetworkPolicy(
        allowlist=tuple(given["allowlist"]),
        deny_all=given["denyAll"],
        host_access=None if rules is None else bool(rules),
        host_access_rules=tuple(rules or ()),
    )
