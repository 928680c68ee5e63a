"""``kici``: run jobs on a coordinator and look at them."""

from kici.cli.verbs import Parser, build_parser, dispatch, leave

PROGRAM = "kici"
ABOUT = "Runs jobs on a KiCI coordinator."
VERBS = {
    "run": "kici.cli.user_run",
    "jobs": "kici.cli.user_jobs",
    "logs": "kici.cli.user_logs",
    "cancel": "kici.cli.user_cancel",
    "admin": "kici.cli.user_admin",
}


def parser() -> Parser:
    """The whole command, for the man page and completion."""
    return build_parser(PROGRAM, ABOUT, VERBS, None)


def main() -> None:
    """Entry point of ``/usr/bin/kici``."""
    leave(dispatch(PROGRAM, ABOUT, VERBS, None))
