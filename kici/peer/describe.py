"""What a log bundle says of this worker beside its logs: machine, links, jobs, findings."""

import platform
import sys
from collections.abc import Iterable

import msgspec

from kici import __version__
from kici.config.model import Config, job_state_dir
from kici.contracts.link.views import PeerState, PoolCapacity
from kici.peer.bundle import NO_LOG_DIR, Worker
from kici.peer.outbox import Outbox
from kici.peer.spool import Spool
from kici.shell.host_facts import host_facts
from kici.shell.machine_facts import file_systems

_FULL_BYTES = 100 * 2**20


def describe(
    config: Config,
    links: Iterable[PeerState],
    capacity: PoolCapacity | None,
    outbox: Outbox,
    spool: Spool,
    *,
    draining: bool,
) -> Worker:
    """A picture of this moment; plain data, so that a thread may write it down."""
    shown = list(links)
    health = {
        "instanceId": config.settings.instance_id,
        "role": config.settings.role,
        "draining": draining,
        "coordinators": msgspec.to_builtins(shown),
        "pool": msgspec.to_builtins(capacity),
        "outbox": {
            "open": len(outbox.keys(is_open=True)),
            "concluded": len(outbox.keys(is_open=False)),
            "unwritten": outbox.has_unwritten,
        },
        "logSpool": {"bytes": spool.n_bytes, "lostLines": spool.n_lost_lines},
    }
    system = {
        "version": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "machine": msgspec.to_builtins(host_facts()),
    }
    findings = [*_of_links(shown), *_of_pool(capacity), *_of_disks(config)]
    if outbox.has_unwritten:
        findings.append(_finding("outbox", "fail", "records wait for the disk"))
    if spool.n_lost_lines:
        findings.append(_finding("log spool", "warn", f"{spool.n_lost_lines} log lines were lost"))
    if config.settings.log_dir is None:
        findings.append(_finding("log files", "warn", NO_LOG_DIR))
    findings += [_finding("configuration", "warn", text) for text in config.warnings]
    return Worker(config=config, system=system, health=health, findings=findings)


def _of_links(links: Iterable[PeerState]) -> Iterable[dict[str, str]]:
    for link in links:
        status = "pass" if link.state == "connected" else "fail"
        yield _finding(f"coordinator {link.url}", status, f"{link.state} {link.reason}".strip())


def _of_pool(capacity: PoolCapacity | None) -> Iterable[dict[str, str]]:
    if capacity is None:
        yield _finding("pool", "fail", "it has not said anything yet")
        return
    status = "warn" if capacity.refusing else "pass"
    yield _finding("pool", status, capacity.refusing or f"{len(capacity.agents)} agents")
    for guard in capacity.guards:
        yield _finding("guard", "warn", guard)
    for scaler in capacity.scalers:
        status = "pass" if scaler.healthy else "fail"
        yield _finding(f"scaler {scaler.name}", status, scaler.reason or "healthy")


def _of_disks(config: Config) -> Iterable[dict[str, str]]:
    settings = config.settings
    places = [settings.data_dir, settings.runtime_dir, job_state_dir(settings)]
    for place, n_free, _inodes in file_systems([*places, settings.log_dir or settings.data_dir]):
        status = "warn" if n_free < _FULL_BYTES else "pass"
        yield _finding(f"disk {place}", status, f"{n_free // 2**20} MiB free")


def _finding(name: str, status: str, detail: str) -> dict[str, str]:
    return {"name": name, "status": status, "detail": detail}
