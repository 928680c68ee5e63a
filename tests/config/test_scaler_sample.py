"""The sample of scaler spec 1.10, in three files."""

from pathlib import Path

from kici.config.enrich import Host
from kici.config.scalers import read_scalers

SAMPLE = Path(__file__).parent / "sample"


# S35
def test_the_sample_of_the_spec_loads_whole():
    config, problems = read_scalers(
        str(SAMPLE / "scalers.yaml"), str(SAMPLE / "scalers.d"), Host("linux", "x64")
    )
    assert problems == ()
    assert [each.name for each in config.scalers] == ["linux-boxes", "gpu-hosts", "untrusted"]
    containers, metal, micro = config.scalers
    assert config.global_max_agents == 24
    assert config.global_resource_cap.max_memory_bytes == 48 * 2**30
    assert config.machine_pools[0].cap.max_cpu == 28
    assert config.default_resources.limits.memory_bytes == 2 * 2**30
    assert containers.resource_cap.max_memory_bytes == 24576 * 2**20
    assert containers.warm_pool.idle_timeout_s == 600
    assert containers.label_sets[0].backpressure_mode == "drop"
    assert containers.label_sets[1].container_socket
    assert containers.label_sets[1].network_policy.deny_all
    assert metal.roles == ()
    assert metal.label_sets[0].gate == ("gpu",)
    assert metal.label_sets[0].env["KICI_SANDBOX"] == "true"
    assert micro.roles is None
    assert "firecracker" in micro.unsupported


def test_the_shipped_example_loads_and_starts_nothing():
    root = Path(__file__).parents[2]
    config, problems = read_scalers(str(root / "conf/scalers.yaml"), None, Host("linux", "x64"))
    assert (config.scalers, problems, config.warnings) == ((), (), ())


def test_every_commented_line_of_the_shipped_example_is_valid_too(tmp_path):
    root = Path(__file__).parents[2]
    lines = (root / "conf/scalers.yaml").read_text().splitlines()
    start = lines.index("version: 1")
    active = [_uncommented(line) for line in lines[start:] if not _is_prose(line)]
    # Each example begins a list of its own: here they are one.
    first = active.index("scalers: []")
    active[first] = "scalers:"
    active = active[: first + 1] + [line for line in active[first + 1 :] if line != "scalers:"]
    path = tmp_path / "all.yaml"
    path.write_text("\n".join(active))
    config, problems = read_scalers(str(path), None, Host("linux", "x64"))
    assert problems == (), path.read_text()
    assert [each.name for each in config.scalers] == ["mac-mini-containers", "pi", "everything"]
    assert config.scalers[2].label_sets[0].network_policy.host_access_rules


def _is_prose(line):
    return line == "#" or (line.startswith("# ") and not line.startswith("#  "))


def _uncommented(line):
    """One ``#`` for the example, another for a key at its default inside it."""
    if line.startswith("#"):
        line = line[1:]
    indent = len(line) - len(line.lstrip())
    rest = line[indent:]
    if rest.startswith("#") and not rest.startswith("# "):
        rest = rest[1:]
    elif rest.startswith("# "):
        return ""
    return " " * indent + rest
