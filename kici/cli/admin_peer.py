"""``kici-admin peer …``: create-token, list, revoke, revoke-all (worker surface 7.1)."""

import argparse
import json
import re
import sys
from collections.abc import Callable

from kici.cli.coordinator_client import add_options
from kici.cli.peer_book import peer_book
from kici.cli.terminal import table
from kici.cli.verbs import EXIT_OK, Failed

HELP = "create join tokens, list and revoke workers"
EPILOG = """\
Works on the coordinator's database on this machine (--data-dir), or through its API (--url).
Exit codes: 0 done, 1 refused or wrong values, 2 wrong usage, 3 not reachable.
"""
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd])")
_UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_HOUR_MS = 3_600_000


def arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="peer_verb", metavar="COMMAND", required=True)
    create = _command(commands, "create-token", "make a one-time join token", create_token)
    create.add_argument("--role", default="worker", help="worker (default) or coordinator")
    create.add_argument("--ttl", help="life of the token: 30m, 1h (default), 2d")
    create.add_argument("--expiry-hours", help="life of the token in hours")
    create.add_argument("--org-id", default="default")
    create.add_argument("--routing-key", default="default")
    create.add_argument("--created-by", default="cli")
    _command(commands, "list", "list the credentials in force", list_peers)
    one = _command(commands, "revoke", "end one worker's credential and its link", revoke)
    one.add_argument("instance", nargs="?", help="instance id")
    one.add_argument("--instance-id", help="the same")
    every = _command(commands, "revoke-all", "end every credential", revoke_all)
    every.add_argument("--confirm", action="store_true", help="needed")


def run(args: argparse.Namespace) -> int:
    task: Callable[[argparse.Namespace], int] = args.task
    return task(args)


def create_token(args: argparse.Namespace) -> int:
    if args.role not in ("worker", "coordinator"):
        raise Failed(f"unknown role {args.role!r}: worker or coordinator")
    life_ms = _life_ms(args)
    made = peer_book(args).mint(args.role, life_ms, args.org_id, args.routing_key, args.created_by)
    if args.json:
        print(json.dumps(made))
        return EXIT_OK
    print(f"Join token created (role: {made['role']}, expires: {made['expiresAt']})\n")
    print(f"{made['token']}\n")
    print("It is shown once and can be used once: keep it in a safe place.")
    if args.role == "coordinator":
        print("Note: the embedded coordinator admits workers only.", file=sys.stderr)
    return EXIT_OK


def list_peers(args: argparse.Namespace) -> int:
    peers = peer_book(args).peers()
    if args.json:
        print(json.dumps({"peers": peers}))
        return EXIT_OK
    if not peers:
        print("No active peers found.")
        return EXIT_OK
    head = ("Instance ID", "Role", "Created At", "Last Seen", "Expires At")
    keys = ("instanceId", "role", "createdAt", "lastSeenAt", "expiresAt")
    print(table(head, [[peer[key] or "never" for key in keys] for peer in peers]))
    return EXIT_OK


def revoke(args: argparse.Namespace) -> int:
    instance_id = args.instance_id or args.instance
    if not instance_id:
        raise Failed("give the instance id: --instance-id ID")
    if not peer_book(args).revoke(instance_id):
        raise Failed(f"no active credential of {instance_id}")
    said = f"Revoked the credential of {instance_id}; its link is closed."
    print(json.dumps({"revoked": 1}) if args.json else said)
    return EXIT_OK


def revoke_all(args: argparse.Namespace) -> int:
    if not args.confirm:
        raise Failed("this ends every worker's credential: give --confirm")
    n = peer_book(args).revoke(None)
    print(json.dumps({"revoked": n}) if args.json else f"Revoked {n} peer credentials.")
    return EXIT_OK


def _command(commands, name, text, task):  # type: ignore[no-untyped-def]
    command = commands.add_parser(name, help=text, description=text)
    add_options(command)
    command.set_defaults(task=task)
    return command


def _life_ms(args: argparse.Namespace) -> int:
    if args.expiry_hours is not None:
        try:
            hours = float(args.expiry_hours)
        except ValueError:
            hours = 0.0
        if not 0 < hours < 24 * 3650:
            raise Failed("--expiry-hours: expected a number above 0")
        return int(hours * _HOUR_MS)
    match = _DURATION.fullmatch(args.ttl or "1h")
    if match is None or not 0 < (life := float(match[1]) * _UNIT_MS[match[2]]) < 1e12:
        raise Failed("--ttl: expected a duration such as 30m, 1h or 2d")
    return int(life)
