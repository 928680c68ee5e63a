"""``nft`` as far as agents' rules go, kept in a file: ``fake_nft.py FILE ARGUMENTS…``.

Handles are never given twice, and a transaction with one wrong line does nothing, as in the
kernel.
"""

import json
import sys
from pathlib import Path


def command(path):
    return (sys.executable, __file__, str(path))


def main(path, *arguments):
    state = json.loads(path.read_text()) if path.exists() else {"next": 1, "rules": {}}
    if arguments[:3] == ("-a", "list", "chain"):
        for handle, (chain, rule) in reversed(state["rules"].items()):
            if chain == arguments[-1]:
                print(f"\t\t{rule} # handle {handle}")
    elif arguments == ("-f", "-"):
        for line in sys.stdin.read().splitlines():
            _perform(state, *line.split(" ", 5))
        path.write_text(json.dumps(state))
    elif arguments != ("list", "tables"):
        sys.exit(f"unknown arguments {arguments}")


def _perform(state, verb, kind, _family, _table="", chain="", rest=""):
    if (verb, kind) == ("insert", "rule"):
        state["rules"][str(state["next"])] = (chain, rest)
        state["next"] += 1
    elif (verb, kind) == ("delete", "rule"):
        handle = rest.removeprefix("handle ")
        if state["rules"].pop(handle, [""])[0] != chain:
            sys.exit(f"no rule {handle} in {chain}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
