"""Warm pools that cannot become what they say: warnings, because the rest works (7.2). Pure."""

from collections.abc import Iterator

from kici.config.model import ResourceCap, Resources, ResourceSpec, Scaler, ScalerConfig


def warm_warnings(config: ScalerConfig) -> Iterator[tuple[str, str]]:
    """Path below the document and sentence, for each pool that is too big or never used."""
    n_warm = 0
    for index, scaler in enumerate(config.scalers):
        pool, path = scaler.warm_pool, f"scalers[{index}].warmPool"
        if not pool.enabled:
            if pool.size:
                yield path, f"size {pool.size} has no effect: `enabled` is not true"
            continue
        if not pool.size:
            yield path, "has no effect: `size` is 0"
        if scaler.unsupported is not None:
            yield path, "has no effect: this worker does not run the scaler"
            continue
        n_warm += pool.size * len(scaler.label_sets)
        yield from ((path, text) for text in _too_big(scaler, config))
        yield from _never_used(scaler, index)
    if n_warm > config.global_max_agents:
        limit = config.global_max_agents
        yield "globalMaxAgents", f"{limit} is less than the {n_warm} agents of all warm pools"


def _too_big(scaler: Scaler, config: ScalerConfig) -> Iterator[str]:
    size, n_sets = scaler.warm_pool.size, len(scaler.label_sets)
    if size * n_sets > scaler.max_agents:
        what = f"size {size} for each of {n_sets} label sets" if n_sets > 1 else f"size {size}"
        yield f"{what} is more than maxAgents {scaler.max_agents}: it will never be full"
    requests = [_requests(one.resources, config.default_resources) for one in scaler.label_sets]
    cpus = size * sum(one.cpus for one in requests)
    memory = size * sum(one.memory_bytes for one in requests)
    pools = {pool.name: pool.cap for pool in config.machine_pools}
    caps = {
        "resourceCap": scaler.resource_cap,
        "globalResourceCap": config.global_resource_cap,
        f"machinePool {scaler.machine_pool}": pools.get(scaler.machine_pool or ""),
    }
    for name, cap in caps.items():
        if cap is not None and _exceeds(cap, cpus, memory):
            yield f"its agents together request more than {name} allows: it will never be full"


def _exceeds(cap: ResourceCap, cpus: float, memory: int) -> bool:
    too_many_cpus = bool(cap.max_cpu) and cpus > (cap.max_cpu or 0.0) + 1e-9
    return too_many_cpus or (bool(cap.max_memory_bytes) and memory > (cap.max_memory_bytes or 0))


def _requests(*declared: Resources | None) -> ResourceSpec:
    """As the pool resolves them without a job (2.5)."""
    given = [one.requests or one.limits for one in declared if one is not None]
    there = [one for one in given if one is not None]
    return ResourceSpec(
        cpus=next((one.cpus for one in there if one.cpus), 0.0),
        memory_bytes=next((one.memory_bytes for one in there if one.memory_bytes), 0),
    )


def _never_used(scaler: Scaler, index: int) -> Iterator[tuple[str, str]]:
    """Of two sets with the same labels the first gets every job (S44); a gate that the set
    does not carry itself lets no job in (S46)."""
    seen: dict[frozenset[str], int] = {}
    for number, label_set in enumerate(scaler.label_sets):
        labels = frozenset(label_set.enriched)
        path = f"scalers[{index}].labelSets[{number}]"
        first = seen.setdefault(labels, number)
        if first != number:
            yield path, f"its warm pool is never used: labelSets[{first}] has the same labels"
        if missing := sorted({one.lower() for one in label_set.gate} - labels):
            yield path, f"its warm pool is never used: no job can ask for {', '.join(missing)} here"
