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
_USAGE = "usage: kici-agent [--help | --version | --check-config]\n"
_HELP = f"""\
{_USAGE}
Runs the jobs that a KiCI worker gives it, one at a time: shell steps in a checkout of the
job's repository. A worker with a bare-metal or container scaler starts it by itself, for one
job each; started by hand it stays and serves until SIGTERM (ends the job) or SIGUSR1 (lets
the job end). It needs git and bash.

options:
  --check-config  check the variables, name every problem, run nothing
  --version       print the version
  -h, --help      print this

environment (a worker sets these for the agents that it starts):
  KICI_ORCHESTRATOR_URL          the worker, ws://HOST:4000/ws or wss://...; required
  KICI_AGENT_TOKEN               credential, from 'kici-worker token create'
  KICI_AGENT_ID                  name (default: host name and 8 random digits)
  KICI_LABELS                    comma list of what this machine offers
  KICI_PROPERTIES                comma list of NAME=VALUE
  KICI_DEFAULT_STEP_TIMEOUT_MS   for steps without one of their own (default: 1800000)
  KICI_MAX_LOG_SIZE_BYTES        log of one step (default: 10485760)
  KICI_BACKPRESSURE_MODE         pause (default): a slow link slows the step; drop: it costs lines
  KICI_PORT, KICI_HOST           serve /health and /ready there (default: nowhere)
  KICI_LOG_LEVEL                 of its own messages on stderr (default: info)

example:
  KICI_ORCHESTRATOR_URL=ws://worker:4000/ws KICI_AGENT_TOKEN=kat_... \\
  KICI_LABELS=linux,bench kici-agent

Exit codes: 0 idle, drained or stopped without a job; 1 stopped during a job; 2 wrong
configuration; 70 internal error; 75 worker away for 15 minutes; 77 refused by the worker.
All of it: docs/agent.md.
"""
_LEVELS = {"trace": "DEBUG", "warn": "WARNING", "fatal": "CRITICAL"}


def main(argv: Sequence[str] | None = None) -> None:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments in (["--version"], ["version"]):
        print(f"kici-agent {kici.__version__}")
        sys.exit(0)
    if arguments in (["--help"], ["-h"]):
        print(_HELP, end="")
        sys.exit(0)
    if arguments not in ([], ["--check-config"]):
        sys.stderr.write(_USAGE + "Configured by KICI_* variables; see kici-agent --help.\n")
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
