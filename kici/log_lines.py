"""A log record as a line: JSON for machines, text for people (worker-surface spec section 5)."""

import json
import logging
import time
from typing import Any

import msgspec

try:
    from pythonjsonlogger.json import JsonFormatter
except ImportError:  # before python-json-logger 3.1
    from pythonjsonlogger.jsonlogger import JsonFormatter

from kici.redaction import MASK, is_secret_name, plain, redact

SERVICE = "orchestrator"
#: A longer text is cut: Loki refuses lines of 256 KiB, and nobody reads them.
MAX_FIELD_CHARS = 16 * 1024
_LEVEL_NAMES = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warn",
    logging.ERROR: "error",
    logging.CRITICAL: "error",
}
#: Loggers named after a process say its name, also before ``set_component``.
_PROCESSES = frozenset({"supervisor", "peer", "pool", "web", "coordinator", "agent"})
_RESERVED = frozenset(
    {*logging.LogRecord("", 0, "", 0, "", (), None).__dict__, "message", "asctime", "taskName"}
)
_COLOURS = {"debug": "\x1b[2m", "warn": "\x1b[33m", "error": "\x1b[31m"}
_RESET = "\x1b[0m"
#: What a terminal line leaves out: the same in each of them, or shown elsewhere.
_NOT_ON_TERMINAL = ("requestId", "stack")

_encode = msgspec.json.Encoder(order="sorted", enc_hook=str).encode


class Identity:
    """Owns: the fields that every line of this process carries."""

    def __init__(self, instance_id: str, role: str, component: str, service: str) -> None:
        self.component = component
        self.fields = {
            "service": service,
            "instance": instance_id,
            "instanceId": instance_id,
            "kici.instanceId": instance_id,
            "kici.role": role,
        }

    def component_of(self, logger: str) -> str:
        parts = logger.split(".", 2)
        named = len(parts) > 1 and parts[0] == "kici" and parts[1] in _PROCESSES
        return parts[1] if named else self.component


_identity = Identity("", "worker", "", SERVICE)


def identify(instance_id: str, role: str, component: str, service: str) -> None:
    """Say whose lines these are, from now on."""
    global _identity
    _identity = Identity(instance_id, role, component, service)


def set_component(name: str) -> None:
    """Say which process this is from now on (a child, after the fork)."""
    _identity.component = name


class JsonLines(JsonFormatter):  # type: ignore[misc, valid-type]
    """python-json-logger with our fields, sorted keys and redaction."""

    def add_fields(
        self, log_record: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        log_record.update(fields_of(record))
        if "exc_info" in message_dict:
            log_record["stack"] = _cut(message_dict["exc_info"])
            log_record.setdefault("error", _error_text(record))
        log_record.update(_identity.fields)
        log_record["component"] = _identity.component_of(record.name)
        log_record["level"] = level_of(record)
        log_record["message"] = _cut(record.getMessage())
        log_record["timestamp"] = timestamp(record.created)

    def jsonify_log_record(self, log_record: dict[str, Any]) -> str:
        try:
            line = _encode(log_record).decode()
        except (UnicodeEncodeError, TypeError, ValueError):  # lone surrogates, odd numbers
            line = json.dumps(log_record, sort_keys=True, default=str)
        return redact(line)


class TextLines(logging.Formatter):
    """``component message key=value …`` for people; the level only when it is not info.

    The strings of a field ``problems`` follow, a line each.
    """

    def __init__(self, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        level, fields = level_of(record), fields_of(record)
        problems = fields.pop("problems", None) or ()
        if problems:
            fields.pop("error", None)  # the same again, in one text
        parts = [_identity.component_of(record.name)]
        if level != "info":
            parts.append(level)
        if fields.get("requestId"):
            parts.append(str(fields["requestId"])[:8])
        parts.append(_one_line(_cut(record.getMessage())))
        parts += [
            f"{key}={_one_line(_shown(value))}"
            for key, value in sorted(fields.items())
            if key not in _NOT_ON_TERMINAL
        ]
        lines = [" ".join(part for part in parts if part)]
        lines += [f"  - {_one_line(_cut(str(problem)))}" for problem in problems]
        line = redact("\n".join(lines))
        if record.exc_info:
            line += "\n" + redact(self.formatException(record.exc_info))
        colour = _COLOURS.get(level) if self._colour else None
        return f"{colour}{line}{_RESET}" if colour else line


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The ``extra`` of a record as plain data; secrets by name are masked, None left out."""
    return {
        key: MASK if is_secret_name(key) else _cut(plain(value))
        for key, value in record.__dict__.items()
        if key not in _RESERVED and value is not None
    }


def level_of(record: logging.LogRecord) -> str:
    return _LEVEL_NAMES.get(record.levelno) or ("info" if record.levelno < 30 else "error")


def timestamp(at: float) -> str:
    """``2026-03-22T10:00:00.123Z``."""
    milliseconds = int(at * 1000)
    seconds = time.gmtime(milliseconds // 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", seconds) + f".{milliseconds % 1000:03d}Z"


def _error_text(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else None
    return _cut(f"{type(error).__name__}: {error}") if error else ""


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_FIELD_CHARS:
        return value[:MAX_FIELD_CHARS] + f"… (+{len(value) - MAX_FIELD_CHARS} characters)"
    return value


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return json.dumps(text) if " " in text and isinstance(value, str) else text


def _one_line(text: str) -> str:
    """What others wrote must not move the cursor or begin a line."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
