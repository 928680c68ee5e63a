"""``kici-admin``: join tokens and credentials of workers."""

from kici.cli.verbs import Parser, build_parser, dispatch, leave

PROGRAM = "kici-admin"
ABOUT = "Administers the peers of a KiCI coordinator."
VERBS = {"peer": "kici.cli.admin_peer"}


def parser() -> Parser:
    """The whole command, for the man page and completion."""
    return build_parser(PROGRAM, ABOUT, VERBS, None)


def main() -> None:
    """Entry point of ``/usr/bin/kici-admin``."""
    leave(dispatch(PROGRAM, ABOUT, VERBS, None))
