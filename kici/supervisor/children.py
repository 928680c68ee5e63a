"""One child: the library's ``Subprocess``, forked without exec, with our links and restarts.

Owns: pid, state, number of restarts and control link of one child. Told by: the reaper, the
child's own ``child.ready`` and ``child.failed``, ``kici-workerctl``.
"""

import logging
import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any, Protocol

from supervisor.options import decode_wait_status
from supervisor.process import Subprocess
from supervisor.states import ProcessStates, getProcessStateDescription

from kici.contracts.link import Message
from kici.contracts.link.envelope import Envelope
from kici.contracts.link.lifecycle import ChildFailed, ChildReady, ChildState, Leave
from kici.contracts.states import ChildName
from kici.shell.child import EXIT_CANNOT_BOOT
from kici.shell.control import ControlLink
from kici.shell.link import socketpair
from kici.supervisor.fork import become
from kici.supervisor.restarts import MAX_DELAY_S, RestartPolicy

_log = logging.getLogger("kici.supervisor")

#: What a child gets beyond the time it was promised before it is killed.
LEAVE_GRACE_S = 1.0


class Owner(Protocol):
    """What a child needs of the worker around it."""

    boot_id: str

    def boot(self, name: ChildName, control_fd: int) -> tuple[Any, Callable[..., int]]: ...
    def spawned(self, child: "Child") -> None: ...
    def said(self, child: "Child", envelope: Envelope) -> None: ...
    def changed(self, child: "Child") -> None: ...
    def died(self, child: "Child", control_fd: int | None) -> None: ...
    def gave_up(self, child: "Child", reason: str, configuration: bool) -> None: ...


class Child(Subprocess):
    def __init__(self, config: Any, owner: Owner) -> None:
        super().__init__(config)
        self.name = ChildName(config.name)
        self.control: ControlLink | None = None
        self.ready = False
        self.leaving = False
        self.n_starts = 0
        self.since = time.time()
        self.reason = ""
        self._shown: tuple[str, int, str] = ("", 0, "")
        self._owner = owner
        self._policy = RestartPolicy()
        self._failure: ChildFailed | None = None
        self._started_at = 0.0
        self._hold_until = 0.0  # monotonic; no start before
        self._child_end: Any = None

    # --- the library's hooks ---------------------------------------------------------

    def get_execv_args(self) -> tuple[str, list[str]]:
        """Called by ``spawn`` before the fork: there is no program to look for."""
        end, self._child_end = socketpair()
        self.control = ControlLink(
            end, neighbour=self.name, boot_id=self._owner.boot_id, on_message=self._hear
        )
        self.ready = False
        self._failure = None
        self._started_at = time.monotonic()
        return "", []

    def _spawn_as_parent(self, pid: int) -> int:
        self._child_end.close()
        self.n_starts += 1
        super()._spawn_as_parent(pid)
        _log.info("Child started", extra={"child": str(self.name), "childPid": pid})
        self._owner.spawned(self)
        self._owner.changed(self)
        return pid

    def _spawn_as_child(self, _filename: str, _argv: list[str]) -> None:
        become(*self._owner.boot(self.name, self._child_end.fileno()))

    def change_state(self, new_state: int, expected: bool = True) -> None:
        super().change_state(new_state, expected)
        if new_state == ProcessStates.BACKOFF and not self.pid:
            self._fork_failed()
        if new_state != ProcessStates.STARTING:  # it has no pid yet: _spawn_as_parent tells
            self._owner.changed(self)

    def transition(self) -> None:
        waits = self.state in (ProcessStates.EXITED, ProcessStates.BACKOFF)
        if waits and (self.leaving or time.monotonic() < self._hold_until):
            return
        self.delay = 0 if self.state == ProcessStates.BACKOFF else self.delay
        super().transition()

    def finish(self, pid: int, sts: int) -> None:
        """Reaped: hear its last words, then decide about another start."""
        control = self.control
        if control is not None:
            control.handle_read_event()
        self.reason = decode_wait_status(sts)[1]
        self.ready = False
        asked = self.killing or self.leaving
        super().finish(pid, sts)
        self._owner.died(self, None if control is None else control.fileno())
        if control is not None:
            control.close()
        self.control = None
        if not asked:
            self._decide(os.waitstatus_to_exitcode(sts))
        self._owner.changed(self)  # the library forgets the pid after its change of state

    def _fork_failed(self) -> None:
        """The process table is full or the like: no child, and no hurry."""
        self._child_end.close()
        if self.control is not None:
            self.control.close()
        self.control = None
        self.reason = str(self.spawnerr)
        self._hold_until = time.monotonic() + min(self.backoff, MAX_DELAY_S)
        _log.error("Child was not started", extra={"child": str(self.name), "error": self.reason})

    # --- ours ------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        return bool(self.pid)

    @property
    def wake_at(self) -> float | None:
        """When ``transition`` wants to be called again (monotonic seconds)."""
        if self.state == ProcessStates.STOPPED and not self.laststart:
            return 0.0  # the first start
        if self.state in (ProcessStates.EXITED, ProcessStates.BACKOFF):
            return None if self.leaving else self._hold_until
        if self.state in (ProcessStates.STARTING, ProcessStates.STOPPING):
            # The library counts in wall-clock time, and wants "later than".
            return time.monotonic() + max(0.0, self.delay - time.time()) + 0.01
        return None

    def tell(self, message: Message) -> None:
        control = self.control
        if control is None or control.send(message) or control.deaf or control.closed:
            return  # dead or dying: a new start begins with the present state anyway
        if control.n_dropped == 1:  # the pings end this; one line is enough
            _log.warning(
                "A message to a child was dropped",
                extra={"child": str(self.name), "message_type": type(message).__name__},
            )

    def leave(self, within_s: float, *, handover: bool = False) -> None:
        """Ask it to go for good; the library kills it when it has not after the grace."""
        self.leaving = True
        if self.state not in (ProcessStates.STARTING, ProcessStates.RUNNING):
            return
        self.tell(Leave(within_s=within_s, handover=handover))
        self.killing = True
        self.delay = time.time() + within_s + LEAVE_GRACE_S
        self.change_state(ProcessStates.STOPPING)

    def kill_now(self) -> None:
        """SIGKILL, without a change of plan: the reaper decides what comes next."""
        if self.pid:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def refresh(self) -> bool:
        """Whether what ``view`` shows has changed since the last call."""
        shown = (self._word(), self.pid, self.reason)
        if shown == self._shown:
            return False
        if shown[:2] != self._shown[:2]:
            self.since = time.time()
        self._shown = shown
        return True

    def view(self, rev: int) -> ChildState:
        return ChildState(
            rev=rev,
            name=self.name,
            pid=self.pid or None,
            state=self._word(),
            n_restarts=max(0, self.n_starts - 1),
            since=self.since,
            reason=self.reason,
        )

    def _word(self) -> str:
        """The library's state, but running means ready instead of "lived for a second"."""
        if self.state in (ProcessStates.STARTING, ProcessStates.RUNNING):
            return "running" if self.ready else "starting"
        return getProcessStateDescription(self.state).lower()

    def _hear(self, envelope: Envelope) -> None:
        if isinstance(envelope.body, ChildReady):
            self.ready = True
            self._owner.changed(self)
        elif isinstance(envelope.body, ChildFailed):
            self._failure = envelope.body
        self._owner.said(self, envelope)

    def _decide(self, exit_code: int) -> None:
        extra = {"child": str(self.name), "reason": self.reason, "exitCode": exit_code}
        if exit_code == EXIT_CANNOT_BOOT:
            failure = self._failure
            reason = f"it cannot start ({self.reason})" if failure is None else failure.reason
            self._give_up(reason, failure is not None and failure.configuration)
            return
        delay = self._policy.died(time.monotonic() - self._started_at, random.random())
        if delay is None:
            self._give_up(f"it died {self._policy.n_in_a_row} times in a row: {self.reason}", False)
            return
        self._hold_until = time.monotonic() + delay
        _log.warning("Child died and is started again", extra={**extra, "delayS": round(delay, 2)})

    def _give_up(self, reason: str, configuration: bool) -> None:
        self.reason = reason
        if self.state == ProcessStates.BACKOFF:
            self.give_up()
        else:
            self.change_state(ProcessStates.FATAL)
        self._owner.gave_up(self, reason, configuration)
