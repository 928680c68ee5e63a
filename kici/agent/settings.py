"""The agent's variables: those of the real agent (scaler spec appendix A, agent spec 6.1)."""

import math
import re
import shutil
import socket
import uuid
from collections.abc import Callable, Mapping
from difflib import get_close_matches

import msgspec

from kici.errors import ConfigError, Problem

#: Known, and either without effect here or meant for the real agent only.
IGNORED = frozenset(
    (
        "KICI_EXECUTION_MODE",
        "KICI_SANDBOX",
        "KICI_SANDBOX_NETWORK",
        "KICI_GITHUB_TOKEN",
        "KICI_CONCURRENCY_WAIT_TIMEOUT_MS",
        "KICI_DOCKER_KEEP_FAILED",
        "KICI_AGENT_IS_ORCHESTRATOR_HOST",
        "KICI_LOG_DIR",
        "KICI_LOG_MAX_SIZE",
        "KICI_LOG_RETENTION_DAYS",
        "KICI_LOG_FORMAT",
        "KICI_CLUSTER_INSTANCE_ID",
        "KICI_PLATFORM_INSTANCE_ID",
        "KICI_RUNTIME_IMAGE",
        "KICI_JOB_IMAGE_AGENT",
        "KICI_TRUSTED_ENV",
        "KICI_CACHE",
        "KICI_DEV",
        "KICI_WORKER_OWNER",
    )
)
_EXEMPT = re.compile(r"KICI_E2E_|KICI_AGENT_ENV_|.*_ENV_PROBE\Z")
_NAME = re.compile(r"[A-Za-z0-9._:-]{1,200}\Z")


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Durations in seconds, sizes in bytes. ``token`` is SECRET."""

    url: str
    agent_id: str
    token: str | None = None
    labels: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    properties: dict[str, str | int | float | bool] = {}
    scaler_managed: bool = False
    idle_timeout_s: float = 5.0
    pending_timeout_s: float = 60.0
    job_heartbeat_s: float = 60.0
    step_timeout_s: float = 1800.0
    max_log_bytes: int = 10 * 2**20
    drop_on_backpressure: bool = False
    log_level: str = "info"
    #: Where /health and /ready are served; port 0: nowhere.
    host: str = "0.0.0.0"
    port: int = 0

    def __repr__(self) -> str:
        return f"AgentSettings(agent_id={self.agent_id!r}, url={self.url!r})"


class _Reader:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ, self.seen, self.problems = environ, set[str](), list[Problem]()

    def get(self, name: str, default: str | None = None) -> str | None:
        self.seen.add(name)
        return self.environ.get(name, default)

    def number(self, name: str, default: float, low: float) -> float:
        text = self.get(name)
        if not text:
            return default
        try:
            value = float(text) if text.isascii() else math.nan
        except ValueError:
            value = math.nan
        if not low <= value < 1e15:
            self.problems.append(Problem(name, f"must be a number of at least {low:g}"))
            return default
        return value

    def port(self, name: str) -> int:
        """0 when unset."""
        text = self.get(name) or "0"
        if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
            self.problems.append(Problem(name, "must be a port, 0 to 65535"))
            return 0
        return int(text)

    def choice(self, name: str, default: str, known: tuple[str, ...]) -> str:
        value = self.get(name) or default
        if value not in known:
            self.problems.append(Problem(name, f"must be one of {', '.join(known)}"))
        return value


def read_settings(
    environ: Mapping[str, str], *, find: Callable[[str], str | None] = shutil.which
) -> AgentSettings:
    """Raises ``ConfigError`` with every problem at once."""
    read = _Reader(environ)
    managed = read.get("KICI_SCALER_MANAGED") == "1"
    url = read.get("KICI_ORCHESTRATOR_URL") or ""
    if not re.match(r"wss?://[^/\s]", url):
        problem = "must be set to a ws:// or wss:// URL" if not url else "is not a ws(s):// URL"
        read.problems.append(Problem("KICI_ORCHESTRATOR_URL", problem))
    agent_id = read.get("KICI_AGENT_ID") or f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
    if not _NAME.match(agent_id):
        read.problems.append(Problem("KICI_AGENT_ID", "letters, digits and ._:- only"))
    labels = _list(read.get("KICI_LABELS", ""))
    if not managed and any(label.lower().startswith("kici:") for label in labels):
        read.problems.append(Problem("KICI_LABELS", "the prefix kici: is reserved"))
    settings = AgentSettings(
        url=url,
        agent_id=agent_id,
        token=read.get("KICI_AGENT_TOKEN") or None,
        labels=labels,
        roles=_roles(read),
        properties=_properties(read),
        scaler_managed=managed,
        idle_timeout_s=read.number("KICI_SCALER_IDLE_TIMEOUT", 5000, -1e12) / 1000,
        pending_timeout_s=read.number("KICI_SCALER_PENDING_DISPATCH_TIMEOUT", 60000, 0) / 1000,
        job_heartbeat_s=read.number("KICI_JOB_HEARTBEAT_INTERVAL_MS", 60000, 1) / 1000,
        step_timeout_s=read.number("KICI_DEFAULT_STEP_TIMEOUT_MS", 1800000, 1) / 1000,
        max_log_bytes=int(read.number("KICI_MAX_LOG_SIZE_BYTES", 10 * 2**20, 1)),
        drop_on_backpressure=(
            read.choice("KICI_BACKPRESSURE_MODE", "pause", ("pause", "drop")) == "drop"
        ),
        log_level=read.choice("KICI_LOG_LEVEL", "info", ("trace", "debug", "info", "warn",
                                                          "warning", "error", "fatal")),
        host=read.get("KICI_HOST") or "0.0.0.0",
        port=read.port("KICI_PORT"),
    )  # fmt: skip
    _unknown(read, tolerant=managed)
    read.problems += [Problem(tool, "is not on PATH") for tool in ("git", "bash") if not find(tool)]
    if read.problems:
        raise ConfigError(read.problems)
    return settings


def _list(text: str | None) -> tuple[str, ...]:
    parts = (part.strip() for part in (text or "").split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def _roles(read: _Reader) -> tuple[str, ...]:
    """Role labels only when asked for by name: builder and init jobs need Node, and this
    agent has none, so ``all`` and unset mean: those that we can serve, none."""
    roles = _list(read.get("KICI_ROLES"))
    for role in roles:
        if role not in ("builder", "init-runner", "all"):
            read.problems.append(Problem("KICI_ROLES", f"unknown role {role!r}"))
    return ()


def _properties(read: _Reader) -> dict[str, str | int | float | bool]:
    found: dict[str, str | int | float | bool] = {}
    for pair in _list(read.get("KICI_PROPERTIES")):
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            read.problems.append(Problem("KICI_PROPERTIES", "must be name=value, separated by ,"))
            continue
        found[name.strip()] = _typed(value.strip())
    return found


def _typed(text: str) -> str | int | float | bool:
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"-?[0-9]{1,15}", text):
        return int(text)
    if re.fullmatch(r"-?[0-9]{1,15}\.[0-9]{1,15}", text):
        return float(text)
    return text


def _unknown(read: _Reader, *, tolerant: bool) -> None:
    """A scaler may be newer than its agent: what it sets and we do not know is its affair."""
    if tolerant or read.environ.get("KICI_DEV") == "true":
        return
    known = read.seen | IGNORED
    for name in sorted(read.environ):
        if name.startswith("KICI_") and name not in known and not _EXEMPT.match(name):
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            read.problems.append(Problem(name, f"unknown variable{hint}"))
