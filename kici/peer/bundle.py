"""The log bundle of this worker and its agents: a ZIP of ZIPs (peer spec 4.18).

Runs in a thread: no gevent here, and no error but as a result (gevent would print a stack for
what is an answer, such as a full disk).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, BinaryIO

import msgspec

from kici import __version__
from kici.config.model import Config
from kici.config.shown import shown_config
from kici.contracts.link.logs import AgentLogs
from kici.protocol.bundle_pieces import MAX_LOG_BYTES, BundleFailed
from kici.shell.recent_logs import masked_blocks, recent_logs
from kici.shell.unnamed_file import unnamed_file
from kici.shell.zip_writer import ZipWriter, blocks_of, safe_name

NO_LOG_DIR = "KICI_LOG_DIR is not set: this worker keeps no log files"


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle says of this worker. ``system``, ``health`` and ``findings`` are plain
    data; the rest is made from ``config`` when it is wanted."""

    config: Config
    system: dict[str, Any]
    health: dict[str, Any]
    findings: list[dict[str, str]]


def write_bundle(
    worker: Worker,
    hours: float,
    rows: Sequence[AgentLogs],
    files: Mapping[str, BinaryIO],
    reason: str,
    *,
    stopped: Callable[[], bool],
) -> tuple[BinaryIO | None, Exception | None]:
    """The bundle, to be read from the beginning, or the error."""
    directory = worker.config.settings.runtime_dir
    try:
        bundle = unnamed_file(directory)
    except OSError as error:
        return None, error
    try:
        with closing(ZipWriter(bundle, stopped)) as archive:
            nodes = [_add_local(archive, worker, hours, stopped)]
            nodes += _add_agents(archive, rows, files)
            if reason:
                nodes.append({"id": "agents", "kind": "agent", "status": "error", "error": reason})
            manifest = {"instanceId": worker.config.settings.instance_id, "generatedAt": _now()}
            archive.add_json("fleet-manifest.json", manifest | {"nodes": nodes})
        bundle.seek(0)
    except (OSError, ValueError, BundleFailed) as error:
        _close(bundle)
        return None, error
    return bundle, None


def _add_local(
    archive: ZipWriter, worker: Worker, hours: float, stopped: Callable[[], bool]
) -> dict[str, Any]:
    settings = worker.config.settings
    with unnamed_file(settings.runtime_dir) as local:
        with closing(ZipWriter(local, stopped)) as inner:
            _fill(inner, worker, hours)
        local.seek(0)
        n_bytes = archive.add("local/bundle.zip", blocks_of(local), packed=True)
    return {"id": settings.instance_id, "kind": "local", "status": "ok", "bytes": n_bytes}


def _fill(inner: ZipWriter, worker: Worker, hours: float) -> None:
    settings = worker.config.settings
    inner.add_json("config/config.json", shown_config(worker.config))
    inner.add_json("system/info.json", worker.system)
    inner.add_json("diagnostics/results.json", worker.findings)
    inner.add_json("cluster/health.json", worker.health)
    logs, notes, taken = [], [], set[str]()
    if settings.log_dir is None:
        notes.append(NO_LOG_DIR)
    else:
        since = time.time() - hours * 3600
        for each in recent_logs(settings.log_dir, settings.instance_id, since, MAX_LOG_BYTES):
            name = f"logs/{safe_name(each.name, taken)}"
            n_bytes = inner.add(name, masked_blocks(each))
            logs.append({"name": name, "bytes": n_bytes, "cut": each.n_wanted < each.n_bytes})
    manifest = {
        "instanceId": settings.instance_id,
        "role": settings.role,
        "version": __version__,
        "generatedAt": _now(),
        "logWindowHours": hours,
        "maxLogBytes": MAX_LOG_BYTES,
        "logs": logs,
        "notes": notes,
    }
    inner.add_json("manifest.json", manifest)


def _add_agents(
    archive: ZipWriter, rows: Sequence[AgentLogs], files: Mapping[str, BinaryIO]
) -> Iterator[dict[str, Any]]:
    taken: set[str] = set()
    for row in rows:
        node: dict[str, Any] = {"id": row.agent_id, "kind": "agent", "status": row.status}
        file = files.get(row.agent_id)
        if file is not None and row.status == "ok":
            name = f"agents/{safe_name(row.agent_id, taken)}.zip"
            node["bytes"] = archive.add(name, blocks_of(file), packed=True)
            file.close()  # its bytes are in the bundle now, the disk may have them back
        else:
            node["error"] = row.error or "its bundle did not arrive"
        yield node


def _close(file: BinaryIO) -> None:
    try:
        file.close()
    except OSError:  # a full disk: what was buffered is lost with the rest
        return


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
