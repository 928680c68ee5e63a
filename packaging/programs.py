"""The commands and their argparse trees, for the manuals and the completion."""

import argparse
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

#: Commands whose help is a tree of verbs: program -> module with ``parser()``.
TREES = {
    "kici-worker": "kici.cli.worker",
    "kici-coordinator": "kici.cli.coordinator",
    "kici-admin": "kici.cli.admin",
    "kici": "kici.cli.user",
}


def parser_of(program: str) -> argparse.ArgumentParser:
    return importlib.import_module(TREES[program]).parser()


def verbs_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The verbs directly below ``parser``."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def walk(
    parser: argparse.ArgumentParser, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """Every parser of the tree with the verbs that lead to it, the root first."""
    yield path, parser
    for verb, below in verbs_of(parser).items():
        yield from walk(below, (*path, verb))


def options_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [
        action
        for action in parser._actions
        if not isinstance(action, argparse._SubParsersAction) and action.help != argparse.SUPPRESS
    ]


def version() -> str:
    import kici

    return kici.__version__


def moment() -> str:
    """The day of the build, from SOURCE_DATE_EPOCH: builds are reproducible."""
    import datetime
    import os

    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    return datetime.datetime.fromtimestamp(epoch, datetime.UTC).strftime("%Y-%m-%d")
