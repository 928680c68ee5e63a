"""The supervisor: ``run(config)`` is the whole life of the worker and returns its exit code.

0 stopped on request; 1 crash, port in use, a child gave up; 78 the configuration is wrong.
"""

import logging
import os
import sys
from collections.abc import Callable, Mapping

from kici.config.model import Config
from kici.contracts.states import ChildName
from kici.shell import host
from kici.supervisor.fork import RunChild, freeze
from kici.supervisor.listen import PortUnavailable, open_listener
from kici.supervisor.liveness import Liveness
from kici.supervisor.preload import import_gevent, patch_ssl, real_children
from kici.supervisor.reload import Load
from kici.supervisor.signals import SignalQueue

_log = logging.getLogger("kici.supervisor")

EXIT_CRASHED = 1


def run(
    config: Config,
    *,
    children: Callable[[], Mapping[ChildName, RunChild]] = real_children,
    load: Load | None = None,
    liveness: Liveness | None = None,
) -> int:
    """Serve until told to stop. The keyword arguments are seams for tests: the children, how
    SIGHUP loads, the times of the pings."""
    signals = SignalQueue()
    try:
        return _run(config, children, load or _load_again, liveness or Liveness(), signals)
    finally:
        signals.close()
        _let_go_of_stdout()


def _run(
    config: Config,
    children: Callable[[], Mapping[ChildName, RunChild]],
    load: Load,
    liveness: Liveness,
    signals: SignalQueue,
) -> int:
    settings = config.settings
    host.set_process_title("kici-worker: supervisor")
    try:
        # Before the imports: who connects while they last is queued, not refused.
        listener = open_listener(settings.host, settings.port)
    except PortUnavailable as error:
        _log.error("Fatal startup error", extra={"error": str(error)})
        return EXIT_CRASHED
    with listener:
        patch_ssl()
        import_gevent()
        table = children()
        # Here, not above: the library imports ssl, and must find it patched.
        from kici.supervisor.worker import Worker

        worker = Worker(config, table, load, liveness, signals, listener)
        freeze()
        try:
            return worker.serve()
        except Exception:  # noqa: BLE001 (W138: the stack is logged, then exit 1)
            _log.exception("Uncaught exception")
            worker.abandon()
            return EXIT_CRASHED


def _load_again() -> Config:
    from kici.config.load import load_config

    return load_config(os.environ)


def _let_go_of_stdout() -> None:
    """A log reader that went away (W150) must not turn the exit code into Python's 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 1 if stream is sys.stdout else 2)
