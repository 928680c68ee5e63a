"""``kici-coordinator``: the small embedded coordinator."""

from kici.cli.verbs import Parser, build_parser, dispatch, leave

PROGRAM = "kici-coordinator"
ABOUT = "Small embedded coordinator of the KiCI continuous-integration system (SQLite)."
DEFAULT = "run"
VERBS = {
    "run": "kici.cli.coordinator_run",
    "logs": "kici.cli.coordinator_logs",
    "version": "kici.cli.version",
}


def parser() -> Parser:
    """The whole command, for the man page and completion."""
    return build_parser(PROGRAM, ABOUT, VERBS, DEFAULT)


def main() -> None:
    """Entry point of ``/usr/bin/kici-coordinator``."""
    leave(dispatch(PROGRAM, ABOUT, VERBS, DEFAULT))
