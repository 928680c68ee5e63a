"""``kici-worker completion SHELL``: made from the parsers, so it cannot be out of date."""

import argparse
from collections.abc import Iterator

HELP = "print a completion script for bash, zsh or fish"
EPILOG = """\
  kici-worker completion bash | sudo tee /usr/share/bash-completion/completions/kici-worker
  kici-worker completion zsh > ~/.zfunc/_kici-worker
  kici-worker completion fish > ~/.config/fish/completions/kici-worker.fish
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))


def run(args: argparse.Namespace) -> int:
    from kici.cli.worker import parser

    print({"bash": bash, "zsh": zsh, "fish": fish}[args.shell](parser()), end="")
    return 0


def verbs_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """verb -> its parser; empty for a command without verbs."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def helps_of(parser: argparse.ArgumentParser) -> dict[str, str]:
    """verb -> its one line of help."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return {choice.dest: choice.help or "" for choice in action._choices_actions}
    return {}


def options_of(parser: argparse.ArgumentParser) -> list[tuple[str, str]]:
    """``(--option, help)`` of one parser."""
    return [
        (option, action.help or "")
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--")
    ]


def bash(parser: argparse.ArgumentParser) -> str:
    name = parser.prog
    function = "_" + name.replace("-", "_")
    cases = "".join(
        f"    {verb}) words='{' '.join(_words(command))}' ;;\n"
        for verb, command in verbs_of(parser).items()
    )
    return (
        f"{function}() {{\n"
        '  local words current="${COMP_WORDS[COMP_CWORD]}"\n'
        '  case "${COMP_WORDS[1]}" in\n'
        f"{cases}"
        f"    *) words='{' '.join([*verbs_of(parser), '--help'])}' ;;\n"
        "  esac\n"
        f"  [ \"$COMP_CWORD\" -gt 1 ] || words='{' '.join([*verbs_of(parser), '--help'])}'\n"
        '  COMPREPLY=($(compgen -W "$words" -- "$current"))\n'
        "}\n"
        f"complete -o default -F {function} {name}\n"
    )


def zsh(parser: argparse.ArgumentParser) -> str:
    name = parser.prog
    helps = helps_of(parser)
    verbs = "".join(f"    '{verb}:{_quiet(helps.get(verb, ''))}'\n" for verb in verbs_of(parser))
    cases = "".join(
        f"    {verb}) compadd -- {' '.join(_words(command))} ;;\n"
        for verb, command in verbs_of(parser).items()
    )
    return (
        f"#compdef {name}\n"
        f"local -a verbs\nverbs=(\n{verbs})\n"
        "if (( CURRENT == 2 )); then\n  _describe verb verbs\nelse\n"
        f'  case "$words[2]" in\n{cases}  esac\nfi\n'
    )


def fish(parser: argparse.ArgumentParser) -> str:
    start, helps = f"complete -c {parser.prog}", helps_of(parser)
    lines = [
        f"{start} -n __fish_use_subcommand -f -a {verb} -d '{_quiet(helps.get(verb, ''))}'"
        for verb in verbs_of(parser)
    ]
    for verb, command in verbs_of(parser).items():
        seen = f"'__fish_seen_subcommand_from {verb}'"
        inner = helps_of(command)
        lines += [
            f"{start} -n {seen} -f -a {word} -d '{_quiet(inner.get(word, ''))}'"
            for word in verbs_of(command)
        ]
        lines += [
            f"{start} -n {seen} -l {option[2:]} -d '{_quiet(text)}'"
            for option, text in options_of(command)
        ]
    return "\n".join(lines) + "\n"


def _words(command: argparse.ArgumentParser) -> Iterator[str]:
    yield from verbs_of(command)
    yield from (option for option, _help in options_of(command))


def _quiet(text: str) -> str:
    return text.replace("'", "").replace(":", ",")
