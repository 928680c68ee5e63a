"""``scalers.yaml`` and ``scalers.d`` to ``ScalerConfig`` (scaler spec 1.1 to 1.7, 7.1)."""

import os
from collections.abc import Sequence
from typing import Any

import msgspec

from kici.config import yaml12
from kici.config.enrich import Host
from kici.config.model import ScalerConfig
from kici.config.places import waits_for_nobody
from kici.config.scaler_build import build
from kici.config.scaler_rules import check_document
from kici.config.scaler_schema import document as document_schema
from kici.config.schema import Report, shown
from kici.config.warm_rules import warm_warnings
from kici.errors import Problem

#: Files of one directory: more is a wrong path.
MAX_FILES = 500

#: Stands for the document of a file that was reported.
_UNREADABLE = object()


class _Unreadable(Exception):
    """A file that gives no document; the text says why."""


def read_scalers(
    path: str | None, directory: str | None, host: Host
) -> tuple[ScalerConfig, Sequence[Problem]]:
    """The merged, checked and enriched configuration, or every problem of all files.

    Without ``path`` there is no scaler, whatever ``directory`` is (S1).
    """
    if path is None:
        return ScalerConfig(), ()
    report = Report(path)
    merged = _merge(path, directory, report)
    if merged is _UNREADABLE:
        return ScalerConfig(), report.problems
    kept = document_schema(merged, "", report)
    if isinstance(kept, dict):
        check_document(kept, report)
    if report.problems:
        return ScalerConfig(), report.problems
    config = build(kept, host, report)
    for where, text in warm_warnings(config):
        report.warn(where, text)
    return msgspec.structs.replace(config, warnings=tuple(report.warnings)), ()


def _merge(path: str, directory: str | None, report: Report) -> Any:
    """The main document with the scalers of the directory's files appended."""
    main = _read_into(path, report)
    if directory is None:
        return main
    for file in _files_of(directory, report):
        extra = _read_into(file, report)
        scalers = extra.get("scalers") if isinstance(extra, dict) else None
        _warn_dropped(file, extra, report)
        if isinstance(scalers, list) and isinstance(main, dict):
            _append(main, file, scalers, report)
    return main


def _read_into(path: str, report: Report) -> Any:
    try:
        return _read(path)
    except _Unreadable as why:
        report.problems.append(Problem(path, str(why)))
        return _UNREADABLE


def _append(main: dict[str, Any], file: str, scalers: list[Any], report: Report) -> None:
    if main.get("scalers") is None:
        main["scalers"] = []
    if not isinstance(main["scalers"], list):
        return  # reported by the schema
    start = len(main["scalers"])
    for index in range(len(scalers)):
        report.origin(f"scalers[{start + index}]", file, f"scalers[{index}]")
    # A new list: the old one may be an anchor that is used elsewhere too.
    main["scalers"] = [*main["scalers"], *scalers]


def _warn_dropped(file: str, document: Any, report: Report) -> None:
    if document is None or document is _UNREADABLE:
        return
    if not isinstance(document, dict):
        report.warnings.append(f"{file}: expected a mapping, found {shown(document)}; ignored")
        return
    for key in document:
        if key != "scalers":
            report.warnings.append(f"{file}: {key}: has no effect outside the main file")
    if "scalers" in document and not isinstance(document["scalers"], list):
        report.warnings.append(f"{file}: scalers: expected a list; ignored")


def _files_of(directory: str, report: Report) -> list[str]:
    """``*.yaml`` and ``*.yml``, dotfiles included, in name order (S2)."""
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith((".yaml", ".yml")))
    except OSError as error:
        report.problems.append(Problem(directory, f"cannot be listed: {error.strerror}"))
        return []
    if len(names) > MAX_FILES:
        report.problems.append(Problem(directory, f"more than {MAX_FILES} files"))
        return []
    return [os.path.join(directory, name) for name in names]


def _read(path: str) -> Any:
    if not waits_for_nobody(path):
        raise _Unreadable("cannot be read: not a regular file")
    try:
        with open(path, "rb") as file:
            content = file.read(yaml12.MAX_BYTES + 1)
    except OSError as error:
        raise _Unreadable(f"cannot be read: {error.strerror}") from None
    try:
        return yaml12.load(content.decode())
    except UnicodeDecodeError as error:
        raise _Unreadable(f"not UTF-8 at byte {error.start}") from None
    except yaml12.YamlError as error:
        raise _Unreadable(f"not valid YAML: {error}") from None
