"""Log lines that the pure machines ask for."""

import logging

from kici.protocol.machine import Note

log = logging.getLogger("kici.peer")

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def note(action: Note) -> None:
    """Write the line of ``action``; an unknown level is information."""
    level = _LEVELS.get(action.level, logging.INFO)
    log.log(level, action.message, extra=dict(action.fields))
