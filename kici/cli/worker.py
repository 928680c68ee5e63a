"""``kici-worker``: the daemon and everything an operator says to it."""

from kici.cli.verbs import Parser, build_parser, dispatch, leave

PROGRAM = "kici-worker"
ABOUT = "Edge worker of the KiCI continuous-integration system."
DEFAULT = "run"
VERBS = {
    "run": "kici.cli.run",
    "check-config": "kici.cli.check_config",
    "version": "kici.cli.version",
    "token": "kici.cli.token",
    "status": "kici.cli.status",
    "jobs": "kici.cli.jobs",
    "logs": "kici.cli.logs",
    "drain": "kici.cli.drain",
    "undrain": "kici.cli.undrain",
    "reload": "kici.cli.reload",
    "explain": "kici.cli.explain",
    "doctor": "kici.cli.doctor",
    "setup": "kici.cli.setup",
    "debug": "kici.cli.debug",
    "completion": "kici.cli.completion",
}


def parser() -> Parser:
    """The whole command, for the man page and completion."""
    return build_parser(PROGRAM, ABOUT, VERBS, DEFAULT)


def main() -> None:
    """Entry point of ``/usr/bin/kici-worker``."""
    leave(dispatch(PROGRAM, ABOUT, VERBS, DEFAULT))
