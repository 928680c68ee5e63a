"""The ``supervisor`` package as a library: its options object, without its files.

``ServerOptions`` is normally filled from an INI file. Ours is filled here, has no pid file,
no TCP server, no log files and no signal handlers of its own. Only what its ``Supervisor`` and
``Subprocess`` classes use is set.
"""

import logging
from collections.abc import Callable
from typing import Any

from supervisor.datatypes import RestartUnconditionally
from supervisor.options import ProcessConfig, ProcessGroupConfig, ServerOptions
from supervisor.poller import Poller

_log = logging.getLogger("kici.supervisor")

#: A child that lived so long counts as started in the library's table of states.
START_S = 1
#: The library's own retries never end: restarts.RestartPolicy decides.
_NEVER = 2**31
#: After SIGTERM by ``kici-workerctl stop`` or ``restart``.
_STOP_WAIT_S = 10


class LibraryLog:
    """The library's logger interface on ours; what it calls info is detail to us."""

    handlers = ()

    def blather(self, message: str, **fields: Any) -> None:
        """Said for every event of the loop: dropped."""

    trace = blather

    def debug(self, message: str, **fields: Any) -> None:
        _log.debug(message)

    def info(self, message: str, **fields: Any) -> None:
        _log.debug(message)

    def warn(self, message: str, **fields: Any) -> None:
        # Each of these is said better by children.py; here it is detail.
        _log.debug(message)

    def error(self, message: str, **fields: Any) -> None:
        _log.error(message)

    def critical(self, message: str, **fields: Any) -> None:
        _log.critical(message)

    def log(self, message: str) -> None:
        _log.debug(message)

    def close(self) -> None:
        """The handlers are not the library's."""


class PromptPoller(Poller):
    """The library's poller; waits until the next deadline instead of always one second."""

    timeout_s: Callable[[], float] | None = None

    def poll(self, timeout: float) -> tuple[list[int], list[int]]:
        return super().poll(timeout if self.timeout_s is None else self.timeout_s())

    def forget(self, fd: int) -> None:
        """Stop polling ``fd``; must be called before it is closed."""
        if fd in self.readables:
            self.unregister_readable(fd)
        if fd in self.writables:
            self.unregister_writable(fd)


class Options(ServerOptions):
    """Owns: nothing; the constants that the library's loop asks for."""

    nodaemon = True
    first = True
    test = False
    identifier = "kici-worker"
    serverurl = None
    minfds = 0
    httpservers = ()

    def __init__(self) -> None:
        super().__init__()
        self.poller.close()
        self.poller = PromptPoller(self)
        self.logger = LibraryLog()

    def setsignals(self) -> None:
        """signals.SignalQueue has them."""

    def write_pidfile(self) -> None:
        """The service manager knows the pid."""

    def openhttpservers(self, supervisord: object) -> None:
        """rpc.open_server does this, on a Unix socket alone."""


class ChildConfig(ProcessConfig):
    """One child. ``make`` builds its ``Subprocess``."""

    def __init__(self, options: Options, name: str, make: Callable[["ChildConfig"], Any]) -> None:
        values: dict[str, Any] = dict.fromkeys(self.req_param_names)
        values.update(
            name=name,
            command=f"kici-worker: {name}",
            priority=1,
            autostart=True,
            autorestart=RestartUnconditionally,
            startsecs=START_S,
            startretries=_NEVER,
            stopsignal=15,
            stopwaitsecs=_STOP_WAIT_S,
            exitcodes=[0],
            stopasgroup=False,
            killasgroup=False,
            redirect_stderr=False,
        )
        super().__init__(options, **values)
        self._make = make

    def make_process(self, group: Any = None) -> Any:
        process = self._make(self)
        process.group = group
        return process

    def make_dispatchers(self, proc: object) -> tuple[dict, dict]:
        """Children write to our stdout themselves: log lines are not copied through here."""
        return {}, {}


def group_config(options: Options, config: ChildConfig) -> ProcessGroupConfig:
    """A group of one: shown as ``pool``, not ``worker:pool``, by ``kici-workerctl``."""
    return ProcessGroupConfig(options, config.name, config.priority, [config])
