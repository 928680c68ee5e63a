"""How one agent of this machine is started and what holds it: scope, control group or neither
(scaler spec 4.4)."""

import logging
import os

from kici.config.model import ResourceSpec
from kici.pool.scalers.base import LaunchSpec
from kici.pool.scalers.host_record import AgentDirectory
from kici.pool.scalers.host_start import (
    agent_environment,
    bus_environment,
    find_binary,
    scope_command,
    wants_scope,
)
from kici.shell import cgroup

log = logging.getLogger("kici.pool.host")


def prepare(
    spec: LaunchSpec, directory: AgentDirectory, owner: str, cgroups: cgroup.CgroupBase | None
) -> tuple[list[str], dict[str, str], str | None, str]:
    """(command, environment, cgroup, what holds it)"""
    binary = spec.label_set.binary_path or ""
    environment = agent_environment(spec, os.environ, owner=owner, scratch=directory.scratch)
    limits = spec.limits or ResourceSpec()
    if wants_scope(spec) and find_binary("systemd-run", os.environ) == "":
        command = scope_command(spec.agent_id, binary, limits, user=os.getuid() != 0)
        return command, environment | bus_environment(os.environ), None, "systemd scope"
    if cgroups is None:
        return [binary], environment, None, "process group, limits not enforced"
    name = f"kici-agent-{spec.agent_id}"
    try:
        group, missing = cgroups.make(name, cpus=limits.cpus, memory_bytes=limits.memory_bytes)
    except OSError as error:
        log.warning("No control group for %s: %s", spec.agent_id, error.strerror)
        return [binary], environment, None, "process group, limits not enforced"
    return [binary], environment, group, cgroup.describe(cgroups, missing)
