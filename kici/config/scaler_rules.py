"""Rules between keys of ``scalers.yaml`` (scaler spec 1.5, 1.6, 7.1). Pure.

They see what the schema kept: an invalid key is simply missing here, and was reported.
"""

import re
from collections.abc import Iterator
from typing import Any

from kici.config.enrich import PLATFORM_OS, Host, legacy_taints, overlap_key, taints_of
from kici.config.schema import Report

Entry = dict[str, Any]

#: A pool's name becomes a file name in the machine ledger.
_POOL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_REQUIRED_IN_SET = {
    "container": ("image",),
    "bare-metal": ("binaryPath", "image"),
    "firecracker": ("rootfsPath",),
}
_REQUIRED_FIRECRACKER = ("firecrackerPath", "jailerPath", "kernelPath")


def entries(document: Entry) -> Iterator[tuple[str, Entry]]:
    """Each scaler entry with its path."""
    for index, entry in enumerate(document.get("scalers", ())):
        yield f"scalers[{index}]", entry


def label_sets(path: str, entry: Entry) -> Iterator[tuple[str, Entry]]:
    for index, label_set in enumerate(entry.get("labelSets", ())):
        yield f"{path}.labelSets[{index}]", label_set


def check_document(document: Entry, report: Report) -> None:
    """Everything that one key says about another."""
    pools = _check_pools(document, report)
    names: dict[str, str] = {}
    for path, entry in entries(document):
        _check_name(path, entry, names, report)
        _check_type(path, entry, report)
        _check_mandatory(path, entry, report)
        pool = entry.get("machinePool")
        if pool is not None and pool not in pools:
            report.problem(
                f"{path}.machinePool", f"expected a name of machinePools, found {pool!r}"
            )
    check_overlap(document, report)


def _check_pools(document: Entry, report: Report) -> set[str]:
    names: set[str] = set()
    for index, pool in enumerate(document.get("machinePools", ())):
        name, path = pool.get("name"), f"machinePools[{index}].name"
        if name is None:
            continue
        if not _POOL_NAME.fullmatch(name):
            report.problem(path, f"expected letters, digits, _ . -, found {name!r}")
        if name in names:
            report.problem(path, f"expected unique names, found {name!r} twice")
        names.add(name)
    return names


def _check_name(path: str, entry: Entry, names: dict[str, str], report: Report) -> None:
    name = entry.get("name")
    if name is None:
        return
    if "," in name or name != name.strip():
        report.problem(f"{path}.name", f"expected no comma and no outer blanks, found {name!r}")
    # Labels are compared without case, and ``kici:scaler:<name>`` is one.
    other = names.setdefault(name.lower(), path)
    if other != path:
        report.problem(
            f"{path}.name", f"expected unique names, found {name!r} also at {report.where(other)}"
        )


def _check_type(path: str, entry: Entry, report: Report) -> None:
    kind = entry.get("type")
    if kind == "event" and not entry.get("provisioningTargets"):
        report.problem(f"{path}.provisioningTargets", "required for an event scaler")
    if kind == "firecracker":
        for key in _REQUIRED_FIRECRACKER:
            if not entry.get(key):
                report.problem(f"{path}.{key}", "required for a firecracker scaler")
        for key in ("uid", "gid"):
            if key not in entry:
                report.problem(f"{path}.{key}", "required for a firecracker scaler")
    needed = _REQUIRED_IN_SET.get(str(kind), ())
    for set_path, label_set in label_sets(path, entry):
        if needed and not any(label_set.get(key) for key in needed):
            report.problem(f"{set_path}.{needed[0]}", f"required for a {kind} scaler")


def _check_mandatory(path: str, entry: Entry, report: Report) -> None:
    """A gate label that no job of the set could name would make the set unreachable."""
    declared = declared_platform(entry)
    by_platform = taints_of(str(entry.get("type")), declared, declared) if declared else ()
    for set_path, label_set in label_sets(path, entry):
        labels = label_set.get("labels")
        for mandatory in entry.get("mandatoryLabels", ()):
            if labels is not None and mandatory not in labels and mandatory not in by_platform:
                report.problem(
                    f"{set_path}.labels", f"expected the mandatory label {mandatory!r} among them"
                )


def declared_platform(entry: Entry) -> Host | None:
    platform = entry.get("platform") or {}
    if "os" not in platform or "arch" not in platform:
        return None
    return Host(PLATFORM_OS[platform["os"]], platform["arch"])


def set_taints(entry: Entry, label_set: Entry, host: Host) -> tuple[str, ...]:
    """Gate labels of one set beyond ``mandatoryLabels``."""
    declared = declared_platform(entry)
    own = legacy_taints(label_set["labels"]) if declared is None else ()
    return tuple(dict.fromkeys((*taints_of(entry["type"], declared, host), *own)))


def check_overlap(document: Entry, report: Report) -> None:
    """The same label set under two scalers would make the choice a matter of order (W20)."""
    owners: dict[str, tuple[str, str]] = {}
    for path, entry in entries(document):
        for set_path, label_set in label_sets(path, entry):
            if "labels" not in label_set or "name" not in entry:
                continue
            key = overlap_key(label_set["labels"])
            owner, owner_path = owners.setdefault(key, (entry["name"], set_path))
            if owner != entry["name"]:
                report.problem(
                    f"{set_path}.labels",
                    f"Scaler config has label-set overlaps: [{key}] belongs to {owner!r} "
                    f"({owner_path}) and {entry['name']!r}",
                )
