"""``kici-agent``: runs jobs for a worker. Configured by KICI_* variables only (docs/agent.md)."""

from gevent import monkey

monkey.patch_all()

import logging  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from collections.abc import Sequence  # noqa: E402

import kici  # noqa: E402
from kici.errors import ConfigError  # noqa: E402

#: Configuration error; a service manager need not try again.
EXIT_CONFIG = 2
_USAGE = "usage: kici-agent [--version | --check-config]\nConfigured by KICI_* variables.\n"
_LEVELS = {"trace": "DEBUG", "warn": "WARNING", "fatal": "CRITICAL"}


def main(argv: Sequence[str] | None = None) -> None:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments in (["--version"], ["version"]):
        print(f"kici-agent {kici.__version__}")
        sys.exit(0)
    if arguments in (["--help"], ["-h"]):
        print(_USAGE, end="")
        sys.exit(0)
    if arguments not in ([], ["--check-config"]):
        sys.stderr.write(_USAGE)
        sys.exit(EXIT_CONFIG)
    sys.exit(_run(check_only=bool(arguments)))


def _run(*, check_only: bool) -> int:
    from kici.agent.settings import read_settings

    try:
        settings = read_settings(os.environ)
    except ConfigError as error:
        sys.stderr.write(f"kici-agent: {error}\n")
        return EXIT_CONFIG
    if check_only:
        print("configuration is valid")
        return 0
    # The token leaves the environment: jobs get a list of allowed names anyway, but a
    # child that inherits by mistake must not find it.
    os.environ.pop("KICI_AGENT_TOKEN", None)
    level = _LEVELS.get(settings.log_level, settings.log_level.upper())
    logging.basicConfig(
        level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    from kici.agent.main import Agent

    return Agent(settings).run()


if __name__ == "__main__":
    main()
