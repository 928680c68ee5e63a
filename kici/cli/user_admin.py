"""``kici admin drain-worker --url …`` (worker surface 7.2): speaks to the worker itself."""

import argparse
import http.client
import json
import os
from urllib.parse import urlsplit

from kici.cli.daemon import admin_token
from kici.cli.verbs import EXIT_OK, Failed

HELP = "drain a worker"
EPILOG = "Exit codes: 0 the worker drains, 1 it refused, cannot be reached, or no --url.\n"
TIMEOUT_S = 30.0


def arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="admin_verb", metavar="COMMAND", required=True)
    text = "stop a worker from taking jobs; running ones finish"
    command = commands.add_parser("drain-worker", help=text, description=text, epilog=EPILOG)
    command.add_argument("--url", help="the worker, for example http://worker-host:4000")
    command.add_argument("--token", help="its admin token; better: KICI_ADMIN_TOKEN(_FILE)")
    command.add_argument("--json", action="store_true", help="machine-readable output")


def run(args: argparse.Namespace) -> int:
    if not args.url:
        raise Failed("required option '--url <url>' not specified")
    base = args.url.removesuffix("/")
    status, reason, body = _post(args.url, base, args.token or admin_token(os.environ))
    if not 200 <= status < 300:
        raise Failed(f"Drain request failed: {status} {reason}")
    try:
        n_jobs = json.loads(body)["activeJobs"]
    except (ValueError, KeyError, TypeError):
        raise Failed(f"Failed to connect to worker at {args.url}: not a worker's answer") from None
    answer = json.dumps({"draining": True, "activeJobs": n_jobs})
    print(answer if args.json else f"Worker draining. Active jobs: {n_jobs}")
    return EXIT_OK


def _post(url: str, base: str, token: str | None) -> tuple[int, str, bytes]:
    try:
        parts = urlsplit(base)
        port = parts.port
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("not an http:// or https:// URL")
    except ValueError as error:
        raise Failed(f"Failed to connect to worker at {url}: {error}") from None
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection = kind(parts.hostname, port, timeout=TIMEOUT_S)
    except http.client.InvalidURL as error:
        raise Failed(f"Failed to connect to worker at {url}: {error}") from None
    try:
        connection.request("POST", parts.path + "/drain", headers=headers)
        response = connection.getresponse()
        return response.status, response.reason, response.read()
    except (OSError, http.client.HTTPException) as error:
        cause = str(error) or type(error).__name__
        raise Failed(f"Failed to connect to worker at {url}: {cause}") from None
    except ValueError:  # its text may quote the token
        cause = "the URL or the token has characters that HTTP cannot carry"
        raise Failed(f"Failed to connect to worker at {url}: {cause}") from None
    finally:
        connection.close()
