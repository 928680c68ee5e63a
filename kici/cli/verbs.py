"""How a command is made of verbs, one file each.

A verb module has ``HELP`` (one line), ``arguments(parser)`` and ``run(args) -> int`` (the
exit code); ``EPILOG`` (text with examples) if it wants one. Verbs import what is heavy in
``run``, so that help and completion stay fast.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import NoReturn

#: Exit codes of every command (docs/cli.md).
EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3

#: verb -> module; None stands for the verb's own name in ``kici.cli``.
Verbs = Mapping[str, str]


class Parser(argparse.ArgumentParser):
    """argparse with our width of help; errors exit 2."""

    def __init__(self, **options: object) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**options)  # type: ignore[arg-type]


class Failed(Exception):
    """A verb cannot do what it was asked; the text is for people, ``code`` the exit code."""

    def __init__(self, text: str, code: int = EXIT_FAILED) -> None:
        super().__init__(text)
        self.code = code


def module_of(verbs: Verbs, verb: str) -> ModuleType:
    return importlib.import_module(verbs[verb])


def build_parser(program: str, about: str, verbs: Verbs, default: str | None) -> Parser:
    """The whole command: also the source of its man page and its completion."""
    parser = Parser(prog=program, description=about)
    commands = parser.add_subparsers(dest="verb", metavar="VERB", required=default is None)
    for verb in verbs:
        module = module_of(verbs, verb)
        command = commands.add_parser(
            verb, help=module.HELP, description=module.HELP, epilog=getattr(module, "EPILOG", None)
        )
        module.arguments(command)
        command.set_defaults(run=module.run, program=program)
    return parser


def dispatch(
    program: str, about: str, verbs: Verbs, default: str | None, argv: Sequence[str] | None = None
) -> int:
    """Run one verb and return its exit code; what goes wrong is one line on stderr."""
    words = list(sys.argv[1:] if argv is None else argv)
    if default is not None and not words:
        words = [default]
    # Only the verb that is asked for is imported: a daemon must not pay for its tools.
    chosen = {words[0]: verbs[words[0]]} if words[0:1] and words[0] in verbs else verbs
    args = build_parser(program, about, chosen, default).parse_args(words)
    return _guarded(program, args)


def _guarded(program: str, args: argparse.Namespace) -> int:
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except Failed as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # ``… | head``: the reader has what it wanted. Nothing more may be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    return code


def leave(code: int) -> NoReturn:
    sys.exit(code)
