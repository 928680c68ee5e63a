"""What this agent says of itself when its worker asks (agent spec 2.1.14, 2.2.23).

An agent writes its log to stderr; its last lines are kept in memory, too, for the bundle.
"""

import io
import logging
import os
import platform
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import kici
from kici.agent import facts
from kici.agent.redact import Redactor
from kici.agent.settings import AgentSettings
from kici.redaction import redact

#: Lines kept, and of each the beginning: 200 KB at the most, a tenth of it as a rule.
MAX_LINES = 500
MAX_LINE_CHARS = 400
_FORMAT = "%(asctime)s %(levelname)s %(message)s"


class OwnLogs(logging.Handler):
    """Owns: the last log lines of this process with their times. Told by: ``logging``."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(_FORMAT))
        self._lines: deque[tuple[float, str]] = deque(maxlen=MAX_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append((record.created, redact(self.format(record))[:MAX_LINE_CHARS]))

    def since(self, at: float, max_bytes: int) -> str:
        """Lines after ``at`` (wall-clock seconds), the newest ``max_bytes`` of them."""
        kept: deque[str] = deque()
        left = max_bytes
        for created, line in reversed(self._lines):
            left -= len(line.encode("utf-8", "replace")) + 1
            if created < at or left < 0:
                break
            kept.appendleft(line + "\n")
        return "".join(kept)


def bundle(
    settings: AgentSettings,
    log: str,
    mask: Callable[[str], str],
    *,
    registered: bool,
    n_active: int,
    started_at: float,
) -> bytes:
    """A ZIP of a few kilobytes. ``mask`` hides what the running job must not show."""
    from kici.shell.zip_writer import ZipWriter  # rarely wanted, 1 MB

    own = Redactor([settings.token] if settings.token else [])

    def hidden(text: str) -> Iterator[bytes]:
        yield redact(own.text(mask(text))).encode("utf-8", "replace")

    file = io.BytesIO()
    archive = ZipWriter(file)
    archive.add("logs/agent.log", hidden(log))
    archive.add("metrics/metrics.txt", hidden(_metrics(registered, n_active, started_at)))
    archive.add_json("config/config.json", own.value(_shown(settings)))
    archive.add_json("system/info.json", own.value(_system(settings)))
    archive.add_json("manifest.json", {"agentId": settings.agent_id, "version": kici.__version__})
    archive.close()
    return file.getvalue()


def _shown(settings: AgentSettings) -> dict[str, Any]:
    """What may be seen; everything else stays out."""
    names = (
        *("url", "agent_id", "labels", "roles", "scaler_managed", "idle_timeout_s"),
        *("pending_timeout_s", "job_heartbeat_s", "step_timeout_s", "max_log_bytes"),
        *("drop_on_backpressure", "log_level", "host", "port"),
    )
    return {name: getattr(settings, name) for name in names}


def _system(settings: AgentSettings) -> dict[str, Any]:
    system = facts.register_facts(settings)
    del system["properties"]
    return system | {"python": platform.python_version(), "pid": os.getpid()}


def _metrics(registered: bool, n_active: int, started_at: float) -> str:
    return (
        f"kici_agent_registered {int(registered)}\n"
        f"kici_agent_active_jobs {n_active}\n"
        f"kici_agent_uptime_seconds {max(0.0, time.time() - started_at):.0f}\n"
    )
