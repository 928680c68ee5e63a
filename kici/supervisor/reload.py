"""SIGHUP: read the configuration again, all or nothing (W136).

Scalers change at run time. Environment variables of a running process cannot change from
outside, but files they name can; a setting that came out different is reported as needing a
restart and is not applied.
"""

import logging
import time
from collections.abc import Callable

import msgspec

from kici.config.model import Config
from kici.contracts.link.lifecycle import ConfigChanged, ReloadResult
from kici.errors import ConfigError

_log = logging.getLogger("kici.supervisor")

Load = Callable[[], Config]


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """``config`` is what holds from now on (the old one after a failure); ``changed`` is what
    pool and web are told, None when nothing may change; ``restart`` names settings that
    differ and need a restart of the worker."""

    config: Config
    result: ReloadResult
    changed: ConfigChanged | None = None
    restart: tuple[str, ...] = ()


class Configuration:
    """Owns: the configuration that holds (``now``), and how often it was read again."""

    def __init__(self, now: Config, load: Load) -> None:
        self.now = now
        self._load = load
        self._rev = 0

    def reload(self) -> Reloaded:
        """Read it again, and say in the log what came of it."""
        self._rev += 1
        done = reload(self.now, self._load, self._rev)
        self.now = done.config
        if done.changed is None:
            problems = list(done.result.problems)
            _log.error("Reload refused, nothing was changed", extra={"problems": problems})
        else:
            extra = {"scalers": len(self.now.scalers.scalers)}
            _log.info("Configuration reloaded", extra=extra)
        if done.restart:
            needs = "Settings changed that need a restart of the worker"
            _log.warning(needs, extra={"settings": list(done.restart)})
        return done


def reload(old: Config, load: Load, rev: int) -> Reloaded:
    """Never raises: a mistake in reading a file must not end a worker that has jobs."""
    try:
        new = load()
    except ConfigError as error:
        return _refused(old, rev, tuple(str(problem) for problem in error.problems))
    except OSError as error:
        return _refused(old, rev, (str(error),))
    except Exception as error:  # noqa: BLE001 - ours; the old configuration still holds
        _log.error("Reading the configuration failed", exc_info=error)
        what = f"reading it failed ({type(error).__name__}), which is our mistake; see the log"
        return _refused(old, rev, (what,))
    restart = tuple(
        name
        for name in old.settings.__struct_fields__
        if getattr(old.settings, name) != getattr(new.settings, name)
    )
    return Reloaded(
        config=msgspec.structs.replace(old, scalers=new.scalers),
        result=ReloadResult(rev=rev, ok=True, at=time.time(), problems=_remarks(restart)),
        changed=ConfigChanged(
            rev=rev, scalers=msgspec.json.encode(new.scalers), warnings=new.scalers.warnings
        ),
        restart=restart,
    )


def _refused(old: Config, rev: int, problems: tuple[str, ...]) -> Reloaded:
    result = ReloadResult(rev=rev, ok=False, at=time.time(), problems=problems)
    return Reloaded(config=old, result=result)


def _remarks(restart: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{name}: changed, takes effect after a restart" for name in restart)
