"""``kici-worker undrain``."""

import argparse

from kici.cli.daemon import add_options, daemon_of
from kici.cli.terminal import show

HELP = "take jobs again after a drain"


def arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    answer = daemon_of(args).ask("DELETE", "/drain")
    show(args, answer, "Worker takes jobs again.")
    return 0
