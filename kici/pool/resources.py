"""Resource declarations of jobs, label sets and defaults (scaler spec 1.4, 2.5)."""

from typing import Any

from kici.config.model import Resources, ResourceSpec
from kici.config.units import memory_bytes

#: No machine has more.
MAX_CPUS = 10**6


class BadResources(ValueError):
    """A declaration of a job that cannot be read: its offer is refused (S54)."""


def read_resources(declared: Any) -> Resources | None:
    """The job's own ``jobConfig.resources``; ``BadResources`` when it is malformed."""
    if declared is None:
        return None
    if not isinstance(declared, dict):
        raise BadResources("resources is not an object")
    return Resources(
        requests=_read_spec(declared.get("requests")), limits=_read_spec(declared.get("limits"))
    )


def _read_spec(declared: Any) -> ResourceSpec | None:
    if declared is None:
        return None
    if not isinstance(declared, dict):
        raise BadResources("resources.requests or limits is not an object")
    cpus = declared.get("cpus") or 0
    if isinstance(cpus, bool) or not isinstance(cpus, int | float) or not 0 <= cpus <= MAX_CPUS:
        raise BadResources("cpus is not a number of cores")
    memory = declared.get("memory")
    return ResourceSpec(cpus=float(cpus), memory_bytes=_read_memory(memory) if memory else 0)


def _read_memory(text: Any) -> int:
    try:
        return memory_bytes(text if isinstance(text, str) else "")
    except ValueError:
        raise BadResources("memory is not like 512m or 2g, 1 PiB at most") from None


def resolve(*declarations: Resources | None) -> tuple[ResourceSpec, ResourceSpec]:
    """Requests and limits: job, label set, defaults, in this order; first declared wins.

    Each declaration is mirrored as a whole object before, never per dimension.
    """
    given = [declared for declared in declarations if declared is not None]
    return (
        _first([declared.requests or declared.limits for declared in given]),
        _first([declared.limits or declared.requests for declared in given]),
    )


def _first(specs: list[ResourceSpec | None]) -> ResourceSpec:
    there = [spec for spec in specs if spec is not None]
    return ResourceSpec(
        cpus=next((spec.cpus for spec in there if spec.cpus), 0.0),
        memory_bytes=next((spec.memory_bytes for spec in there if spec.memory_bytes), 0),
    )
