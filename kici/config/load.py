"""Environment and files to ``Config``: every problem is collected, then raised once.

Order of the values: environment over defaults; there is no other source (spec 2.1).
"""

import os
from collections.abc import Callable, Mapping
from typing import TypeVar

from kici.config import places
from kici.config.enrich import Host, this_host
from kici.config.environment import Reading, read_environment
from kici.config.loki_rules import check_loki
from kici.config.model import Config, ScalerConfig, Secret, Settings
from kici.config.scalers import read_scalers
from kici.errors import ConfigError, Problem

#: Text fields that are paths: ``~`` is expanded, the result is absolute.
_PATH_FIELDS = (
    "credential_file",
    "join_token_file",
    "scaler_config_path",
    "scaler_config_dir",
    "machine_ledger_dir",
    "agent_tokens_file",
    "data_dir",
    "runtime_dir",
    "log_dir",
    "log_spool_dir",
    "loki_ca_file",
)
_T = TypeVar("_T")


def load_settings(environ: Mapping[str, str], *, touch: bool = True) -> Settings:
    """What the variables say. Raises ``ConfigError``. ``touch=False`` creates nothing."""
    reading = read_environment(environ)
    settings = _settings(reading, environ, touch)
    if reading.problems or settings is None:
        raise ConfigError(reading.problems)
    return settings


def load_scaler_config(settings: Settings, *, host: Host | None = None) -> ScalerConfig:
    """What the scaler files say; empty without a path (S1). Raises ``ConfigError``."""
    config, problems = read_scalers(
        settings.scaler_config_path, settings.scaler_config_dir, host or this_host()
    )
    if problems:
        raise ConfigError(problems)
    return config


def load_config(
    environ: Mapping[str, str], *, touch: bool = True, host: Host | None = None
) -> Config:
    """Everything, for a worker. Raises ``ConfigError`` with all problems of all sources."""
    reading = read_environment(environ)
    if reading.values.get("role") == "coordinator":
        reading.problem(
            "KICI_CLUSTER_ROLE",
            "expected worker, found coordinator: that program is kici-coordinator",
        )
    settings = _settings(reading, environ, touch)
    scalers, problems = read_scalers(
        reading.values.get("scaler_config_path"),
        reading.values.get("scaler_config_dir"),
        host or this_host(),
    )
    problems = [*reading.problems, *problems]
    if problems or settings is None:
        raise ConfigError(problems)
    warnings = (*reading.warnings, *_remarks(settings, scalers), *scalers.warnings)
    return Config(settings=settings, scalers=scalers, warnings=warnings)


def _remarks(settings: Settings, scalers: ScalerConfig) -> list[str]:
    if settings.scaler_config_path is None:
        return ["KICI_SCALER_CONFIG_PATH: not set, this worker starts no agents"]  # W22
    if all(scaler.unsupported for scaler in scalers.scalers):
        return ["No scaler backends available in worker mode"]  # W23
    return []


def _settings(reading: Reading, environ: Mapping[str, str], touch: bool) -> Settings | None:
    """Fill in what only files can say; None when there are problems."""
    values = reading.values
    for field in _PATH_FIELDS:
        if field in values:
            values[field] = places.expand(values[field], environ)
    _read_secret_files(reading, environ)
    reading.problems.extend(check_loki(values, environ))
    _find_directories(reading, environ, touch)
    if reading.problems:
        return None
    if "instance_id" not in values:
        made = _try(reading, "KICI_DATA_DIR", lambda: places.instance_id(values["data_dir"], touch))
        values["instance_id"] = made or ""
    return None if reading.problems else Settings(**{"role": "worker", **values})


def _read_secret_files(reading: Reading, environ: Mapping[str, str]) -> None:
    for field in ("admin_token", "loki_password", "loki_token"):
        path = reading.values.pop(f"{field}_file", None)
        if path is None or field in reading.values:
            continue
        where = f"KICI_{field.upper()}_FILE"
        expanded = places.expand(path, environ)
        content = _try(reading, where, lambda path=expanded: places.read_small(path).strip())  # type: ignore[misc]
        if content:
            reading.values[field] = Secret(content)
        elif content is not None:
            reading.problem(where, f"expected a secret in {expanded}, found an empty file")
    _read_join_token_file(reading)


def _read_join_token_file(reading: Reading) -> None:
    """The file is emptied after use: missing or empty is the normal state later on."""
    path = reading.values.get("join_token_file")
    if path is None or "join_token" in reading.values or not os.path.exists(path):
        return
    content = _try(reading, "KICI_CLUSTER_JOIN_TOKEN_FILE", lambda: places.read_small(path).strip())
    if content:
        reading.values["join_token"] = Secret(content)


def _find_directories(reading: Reading, environ: Mapping[str, str], touch: bool) -> None:
    values = reading.values
    found = _try(
        reading,
        "KICI_DATA_DIR",
        lambda: places.data_directory(values.get("data_dir"), environ, touch),
    )
    if found is None:
        return
    values["data_dir"] = found
    runtime = values.setdefault("runtime_dir", os.path.join(found, "run"))
    _try(reading, "KICI_RUNTIME_DIR", lambda: places.usable_directory(runtime, touch))
    credential = values.setdefault(
        "credential_file", places.expand("~/.kici/peer-credential", environ)
    )
    _try(
        reading,
        "KICI_CLUSTER_CREDENTIAL_FILE",
        lambda: places.creatable_directory(os.path.dirname(credential)),
    )
    if "log_dir" in values:
        _try(reading, "KICI_LOG_DIR", lambda: places.usable_directory(values["log_dir"], touch))


def _try(reading: Reading, where: str, look: Callable[[], _T]) -> _T | None:
    try:
        return look()
    except places.Unusable as why:
        reading.problems.append(Problem(where, str(why)))
        return None
