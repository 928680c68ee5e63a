"""``kici-coordinator run``: serve until SIGTERM."""

import argparse
import os
import sys

HELP = "serve workers and jobs until SIGTERM"
EPILOG = """\
Settings: KICI_COORDINATOR_DATA_DIR, _HOST, _PORT, _INSTANCE_ID, _TRUSTED_PROXIES,
_MIN_PROTOCOL_VERSION, KICI_LOG_LEVEL; flags win. The first start makes DATA_DIR/admin-token,
the bearer token of the API. The log line "Coordinator listening" carries the chosen port.

Exit codes: 0 stopped by a signal, 2 wrong settings, data directory or port.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", metavar="DIR", help="database, keys and admin token")
    parser.add_argument("--host", help="address to listen on (default 0.0.0.0)")
    parser.add_argument("--port", type=int, help="port to listen on; 0 takes a free one")
    parser.add_argument("--port-file", metavar="FILE", help="write the port here once it answers")


def run(args: argparse.Namespace) -> int:
    # Before anything that opens a socket is imported.
    from gevent import monkey

    monkey.patch_all()

    from kici import log
    from kici.coordinator.main import EXIT_CONFIG
    from kici.coordinator.main import run as serve
    from kici.coordinator.settings import instance_id, load_settings
    from kici.errors import ConfigError

    try:
        settings = load_settings(
            os.environ,
            data_dir=args.data_dir,
            host=args.host,
            port=args.port,
            port_file=args.port_file,
        )
        name = instance_id(settings)
    except ConfigError as error:
        print(f"kici-coordinator: {error}", file=sys.stderr)
        return EXIT_CONFIG
    log.setup(
        component="coordinator",
        instance_id=name,
        role="coordinator",
        level=settings.log_level,
    )
    return serve(settings)
