"""One JSON object a line, or text for a terminal (worker-surface spec section 5).

``setup`` is called once by each program; a child of the supervisor only calls
``log_lines.set_component`` after the fork. Then ``logging.getLogger("kici.…")`` as everywhere, with
``extra={"runId": …, "jobId": …, "requestId": …}`` on lines that concern a job.
"""

import logging
import os
import sys
from typing import TextIO

from kici.config.model import Settings
from kici.log_files import DailyFile
from kici.log_lines import SERVICE, JsonLines, TextLines, identify
from kici.log_stream import LineStream

LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.ERROR,
}


def setup(
    settings: Settings | None = None,
    *,
    component: str = "",
    instance_id: str = "",
    role: str = "worker",
    level: str = "info",
    format: str = "auto",
    stream: TextIO | None = None,
    service: str = SERVICE,
) -> None:
    """Send this process's log to ``stream`` (stdout), replacing what was set up before.

    ``settings`` say id, role, level, format and files; without them the arguments do.
    ``level`` is one of ``LEVELS``; ``format`` is ``auto``, ``plain`` or ``json``. Other
    packages' loggers are heard from warn on.
    """
    if settings is not None:
        instance_id, role = settings.instance_id, settings.role
        level, format = settings.log_level, settings.log_format
    identify(instance_id, role, component, service)
    handlers: list[logging.Handler] = [_to_stream(sys.stdout if stream is None else stream, format)]
    if settings is not None and settings.log_dir is not None:
        handlers.append(_to_files(settings, settings.log_dir))
    _replace_handlers(handlers)
    logging.getLogger().setLevel(max(LEVELS[level], logging.WARNING))
    logging.getLogger("kici").setLevel(LEVELS[level])


def _to_stream(stream: TextIO, format: str) -> logging.Handler:
    terminal = _is_terminal(stream)
    handler = LineStream(stream)
    if format == "json" or (format != "plain" and not terminal):
        handler.setFormatter(JsonLines())
    else:
        handler.setFormatter(TextLines(colour=terminal and _wants_colour()))
    return handler


def _to_files(settings: Settings, directory: str) -> logging.Handler:
    handler = DailyFile(
        directory,
        settings.instance_id,
        max_bytes=settings.log_max_size_bytes,
        retention_days=settings.log_retention_days,
        total_bytes=settings.log_total_max_bytes,
    )
    handler.setFormatter(JsonLines())
    return handler


def _replace_handlers(handlers: list[logging.Handler]) -> None:
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old, LineStream | DailyFile):
            root.removeHandler(old)
            old.close()
    for new in handlers:
        root.addHandler(new)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


def _wants_colour() -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
