"""``kici-worker token``: tokens for agents that somebody starts by hand."""

import argparse
import os
import time

from kici.cli.envfile import worker_environment
from kici.cli.terminal import show, table
from kici.cli.verbs import Failed

HELP = "tokens for agents that are started by hand"
EPILOG = """\
The worker reads KICI_AGENT_TOKENS_FILE again when it changes; no restart is needed.
An agent may announce the labels of its token and, where there are any, runtime:native.

  kici-worker token create --note bench-pc --labels linux,gpu
  kici-worker token list
  kici-worker token revoke ID

Exit codes: 0 done, 1 no file is configured, or it cannot be used.
"""

#: Our agent announces it by itself; without it in the token's scope it would be refused.
NATIVE_LABEL = "runtime:native"


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a token and show it once")
    create.add_argument("--note", default="", help="what it is for")
    create.add_argument(
        "--label", action="append", metavar="LABEL", help="a label its agent may announce (any)"
    )
    create.add_argument("--labels", metavar="A,B", help="several of them")
    revoke = actions.add_parser("revoke", help="make a token invalid")
    revoke.add_argument("id", help="as shown by list")
    for action in (create, revoke, actions.add_parser("list", help="show what exists")):
        action.add_argument("--file", help="default: KICI_AGENT_TOKENS_FILE")
        action.add_argument("--env-file", metavar="FILE", help="the worker's variables")
        action.add_argument("--json", action="store_true", help="machine-readable output")


def run(args: argparse.Namespace) -> int:
    from kici.errors import KiciError

    try:
        return {"create": _create, "list": _list, "revoke": _revoke}[args.action](args)
    except (OSError, KiciError) as error:
        raise Failed(str(error)) from None


def _file(args: argparse.Namespace) -> str:
    environ = worker_environment(os.environ, args.env_file)
    path = args.file or environ.get("KICI_AGENT_TOKENS_FILE", "").strip()
    if not path:
        raise Failed("no token file: set KICI_AGENT_TOKENS_FILE or give --file")
    return str(path)


def _create(args: argparse.Namespace) -> int:
    from kici.pool.static_tokens import create_static

    several = [label.strip() for label in (args.labels or "").split(",")]
    labels = [*(args.label or ()), *filter(None, several)] or None
    if labels is not None and NATIVE_LABEL not in labels:
        labels.append(NATIVE_LABEL)
    row, token = create_static(_file(args), labels, note=args.note)
    text = f"{token}\n\nShown once. Its agent gets it as KICI_AGENT_TOKEN. Id: {row.id}"
    show(args, {"id": row.id, "token": token, "labels": row.labels}, text)
    return 0


def _list(args: argparse.Namespace) -> int:
    from kici.pool.static_tokens import list_static

    rows = list_static(_file(args))
    data = [
        {"id": row.id, "prefix": row.prefix, "labels": row.labels, "note": row.note} for row in rows
    ]
    cells = [
        (row.id, row.prefix, ",".join(row.labels or ("any",)), _day(row.created_at), row.note)
        for row in rows
    ]
    text = table(("ID", "PREFIX", "LABELS", "CREATED", "NOTE"), cells) if rows else "No tokens."
    show(args, data, text)
    return 0


def _revoke(args: argparse.Namespace) -> int:
    from kici.pool.static_tokens import revoke_static

    if not revoke_static(_file(args), args.id):
        raise Failed(f"no token has the id {args.id}")
    show(args, {"id": args.id, "revoked": True}, f"Token {args.id} revoked.")
    return 0


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at)) if at else "-"
