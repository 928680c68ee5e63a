"""What the coordinator is told: ``KICI_COORDINATOR_*`` and the flags of ``run``."""

import ipaddress
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

import msgspec

from kici.errors import ConfigError, Problem
from kici.shell.durable import make_directory

PREFIX = "KICI_COORDINATOR_"
DEFAULT_PORT = 4000
#: In the data directory: the URL of the running coordinator, for tools on its machine.
ENDPOINT_FILE = "endpoint"
LEVELS = ("trace", "debug", "info", "warn", "error", "fatal")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class CoordinatorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``port`` 0 takes a free one; it is written to ``port_file`` and to stdout."""

    data_dir: str
    host: str = "0.0.0.0"
    port: int = DEFAULT_PORT
    instance_id: str | None = None
    trusted_proxies: tuple[Network, ...] = ()
    min_protocol_version: int = 1
    log_level: str = "info"
    port_file: str | None = None


def default_data_dir(env: Mapping[str, str]) -> str:
    """Root keeps its state where a service does, everybody else in their home."""
    if os.geteuid() == 0:
        return "/var/lib/kici-coordinator"
    state = env.get("XDG_STATE_HOME") or str(
        Path(env.get("HOME") or "~").expanduser() / ".local/state"
    )
    return str(Path(state) / "kici-coordinator")


def data_dir_of(env: Mapping[str, str], flag: str | None = None) -> str:
    """The data directory of ``run``, ``kici-admin`` and ``kici``: flag, variable, default."""
    return flag or env.get(PREFIX + "DATA_DIR") or default_data_dir(env)


def load_settings(
    env: Mapping[str, str], *, data_dir: str | None = None, host: str | None = None,
    port: int | None = None, port_file: str | None = None,
) -> CoordinatorSettings:  # fmt: skip
    """Settings from the environment and flags, which win. ``ConfigError`` with everything
    that is wrong."""
    problems: list[Problem] = []
    known = {"DATA_DIR", "HOST", "PORT", "INSTANCE_ID", "TRUSTED_PROXIES", "MIN_PROTOCOL_VERSION"}
    for name in env:
        if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in known:
            problems.append(Problem(name, f"unknown; known are {', '.join(sorted(known))}"))
    level = (env.get("KICI_LOG_LEVEL") or "info").lower()
    if level not in LEVELS:
        problems.append(Problem("KICI_LOG_LEVEL", f"expected one of {', '.join(LEVELS)}"))
    settings = CoordinatorSettings(
        data_dir=data_dir_of(env, data_dir),
        host=host or env.get(PREFIX + "HOST") or "0.0.0.0",
        port=_number(env, "PORT", DEFAULT_PORT, 65535, problems) if port is None else port,
        instance_id=env.get(PREFIX + "INSTANCE_ID") or None,
        trusted_proxies=_networks(env, problems),
        min_protocol_version=_number(env, "MIN_PROTOCOL_VERSION", 1, 1000, problems),
        log_level=level,
        port_file=port_file,
    )
    if not 0 <= settings.port <= 65535:
        problems.append(Problem("--port", "expected a number from 0 to 65535"))
    if problems:
        raise ConfigError(problems)
    return settings


def instance_id(settings: CoordinatorSettings) -> str:
    """The configured id, or one that is made once and kept in the data directory."""
    if settings.instance_id:
        return settings.instance_id
    path = Path(settings.data_dir) / "instance-id"
    try:
        make_directory(settings.data_dir)
        if not path.exists():
            path.write_text(f"coordinator-{uuid.uuid4()}\n", encoding="ascii")
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        raise ConfigError([Problem(str(path), f"cannot be used: {error}")]) from error


def _number(
    env: Mapping[str, str], name: str, default: int, most: int, problems: list[Problem]
) -> int:
    text = env.get(PREFIX + name)
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or int(text) > most:
        problems.append(Problem(PREFIX + name, f"expected a number from 0 to {most}"))
        return default
    return int(text)


def _networks(env: Mapping[str, str], problems: list[Problem]) -> tuple[Network, ...]:
    found = []
    for entry in (env.get(PREFIX + "TRUSTED_PROXIES") or "").split(","):
        if not entry.strip():
            continue
        try:
            found.append(ipaddress.ip_network(entry.strip(), strict=False))
        except ValueError:
            problems.append(
                Problem(PREFIX + "TRUSTED_PROXIES", f"{entry.strip()!r} is no address or block")
            )
    return tuple(found)
