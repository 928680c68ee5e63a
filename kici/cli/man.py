"""Man pages from the same parsers as ``--help``: ``python -m kici.cli.man DIRECTORY``."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from kici import __version__
from kici.cli.completion import helps_of, verbs_of

SECTION = 1


def render(parser: argparse.ArgumentParser, about: str) -> str:
    """The page of one command and its verbs, in man(7)'s language."""
    name = parser.prog
    lines = [
        f'.TH {name.upper()} {SECTION} "" "{name} {__version__}" "KiCI worker"',
        ".SH NAME",
        f"{_text(name)} \\- {_text(about)}",
        ".SH SYNOPSIS",
        f".B {_text(name)}",
        "[\\fIVERB\\fR] [\\fIOPTION\\fR]...",
        ".SH DESCRIPTION",
        _text(about),
    ]
    helps = helps_of(parser)
    if verbs := verbs_of(parser):
        lines.append(".SH VERBS")
        for verb, command in verbs.items():
            lines += [f".SS {_text(verb)}", _text(helps.get(verb, "")), *_options(command)]
            if command.epilog:
                lines += [".P", ".nf", _text(command.epilog.strip()), ".fi"]
    lines += [".SH SEE ALSO", "/usr/share/doc/kici-worker"]
    return "\n".join(lines) + "\n"


def _options(command: argparse.ArgumentParser) -> Iterator[str]:
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, inner in action.choices.items():
                yield from (".TP", f".B {_text(word)}", _text(helps_of(command).get(word, "")))
                yield from _options(inner)
        elif action.dest != "help":
            yield from (".TP", f".B {_text(_signature(action))}", _text(action.help or ""))


def _signature(action: argparse.Action) -> str:
    if not action.option_strings:
        return str(action.metavar or action.dest)
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    return ", ".join(action.option_strings) + value


def _text(text: str) -> str:
    """Escaped for roff: no line may begin with a control character."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("%%", "%")
    return "\n".join(
        f"\\&{line}" if line[:1] in (".", "'") else line for line in escaped.split("\n")
    )


def main() -> None:
    """Write the page of every command of ours that has a parser."""
    from kici.cli import worker

    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    page = directory / f"{worker.PROGRAM}.{SECTION}"
    page.write_text(render(worker.parser(), worker.ABOUT))


if __name__ == "__main__":
    main()
