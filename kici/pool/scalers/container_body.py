"""The create request of one agent's container (scaler spec 3.5, 3.6). Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from kici.config.model import ResourceSpec
from kici.pool.scalers.base import LaunchSpec
from kici.protocol.labels import canonical

NETWORK = "kici-agent-net"
#: Ours, required together with the scaler's name before anything is touched (3.10, R).
OWNER_LABEL = "kici.worker"
SCALER_LABEL = "kici-scaler-name"
AGENT_LABEL = "kici-agent-id"
JOB_LABEL = "kici-bound-job-id"
RUN_LABEL = "kici-run-id"
LABELS_LABEL = "kici-labels"
MANAGED_LABEL = "kici-managed"
#: As 0.9.1: enough for any build, and an end to fork bombs.
PIDS_LIMIT = 4096


def container_name(agent_id: str) -> str:
    """Deterministic, so that a container whose creation we never heard of can be found."""
    return f"kici-{agent_id}"


def labels(spec: LaunchSpec, owner: str) -> dict[str, str]:
    found = {
        MANAGED_LABEL: "true",
        OWNER_LABEL: owner,
        SCALER_LABEL: spec.scaler.name,
        AGENT_LABEL: spec.agent_id,
        LABELS_LABEL: ",".join(sorted({canonical(label) for label in spec.label_set.labels})),
    }
    if spec.job_id:
        found[JOB_LABEL] = spec.job_id
    if spec.run_id:
        found[RUN_LABEL] = spec.run_id
    return found


def environment(spec: LaunchSpec) -> list[str]:
    """``NAME=value``; each name once. The worker's part comes complete in ``spec.env``."""
    merged: dict[str, str] = {"KICI_EXECUTION_MODE": "bare-metal"} | dict(spec.env)
    if spec.label_set.backpressure_mode:
        merged.setdefault("KICI_BACKPRESSURE_MODE", spec.label_set.backpressure_mode)
    merged |= spec.label_set.env
    return [f"{name}={value}" for name, value in merged.items()]


def limits(spec: LaunchSpec) -> ResourceSpec:
    """3.6: the manager's if any dimension is not zero, else the label set's."""
    given = spec.limits
    if given is not None and (given.cpus > 0 or given.memory_bytes > 0):
        return given
    resources = spec.label_set.resources
    return (resources.limits if resources else None) or ResourceSpec()


def body(
    spec: LaunchSpec,
    *,
    owner: str,
    image: str,
    network: str | None,
    socket_path: str | None,
    extra_hosts: Sequence[str],
    init: bool = True,
) -> dict[str, Any]:
    """What is posted to ``/containers/create``. ``network`` None: the engine's default.

    The image's own command, user and directory stay. Beyond the reference's table: an init
    process, no new privileges, bounded process count, no swap beyond the memory limit and a
    bounded log.
    """
    host: dict[str, Any] = {
        "AutoRemove": False,
        "PidsLimit": PIDS_LIMIT,
        "SecurityOpt": ["no-new-privileges"],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}},
    }
    if init:
        host["Init"] = True
    host |= _limits(limits(spec))
    binds = [*spec.label_set.volumes]
    if spec.label_set.container_socket and socket_path:
        binds.append(f"{socket_path}:{socket_path}")
    if binds:
        host["Binds"] = binds
    if extra_hosts:
        host["ExtraHosts"] = list(extra_hosts)
    made: dict[str, Any] = {
        "Image": image,
        "Env": environment(spec),
        "Labels": labels(spec, owner),
        "HostConfig": host,
    }
    if network is not None:
        host["NetworkMode"] = network
        made["NetworkingConfig"] = {"EndpointsConfig": {network: {}}}
    return made


def _limits(found: ResourceSpec) -> Mapping[str, Any]:
    host: dict[str, Any] = {}
    if found.memory_bytes > 0:
        host["Memory"] = host["MemorySwap"] = int(found.memory_bytes)
    if found.cpus > 0:
        host["NanoCpus"] = round(found.cpus * 1e9)
    return host
