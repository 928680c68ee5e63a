"""Runs commands of a job: environment, time-out, cancel, whole trees (agent spec 6.8, A95)."""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec
from gevent.event import Event

from kici.agent.logs import BATCH_S, StepLog
from kici.shell import host, processes
from kici.shell.step_process import StepProcess

#: TERM to KILL when a step ran out of time or its job was cancelled.
GRACE_S = 5.0
#: After the command's end: how long its outputs may still bring something.
_DRAIN_S = 0.3
_POLL_S = 0.05
#: After the job, when nobody writes any more: for the rest that the pipes hold, and when
#: somebody still writes.
_TAIL_S, _CUT_S = 2.0, 1.0
#: Commands whose outputs background processes may still hold: two descriptors each, of
#: which a process has 1,024. More lose the oldest's output.
MAX_HELD = 50
CUT = "[output ends here: a process that outlives its step or job still holds it]"

#: What a job sees of the agent's own environment (6.8); nothing named KICI_*. The last is
#: the worker's mark, by which it finds what an agent that was killed has left.
_MARK = "KICIWORKER_AGENT"
INHERITED = (
    "PATH", "HOME", "USER", "SHELL", "LANG", "LC_ALL", "TERM", "TMPDIR", "TZ", _MARK,
)  # fmt: skip


class Interrupt:
    """Owns: whether the job was told to end, and how hard. Told by: worker, signals, timers."""

    def __init__(self) -> None:
        self.fired = False
        self.reason = ""
        self.force = False
        self.grace_s = GRACE_S
        self.state = "cancelled"

    def fire(self, reason: str, *, force: bool, state: str, grace_s: float = GRACE_S) -> None:
        """The first reason and state count; ``force`` may be added later."""
        if not self.fired:
            self.reason, self.state, self.grace_s = reason, state, grace_s
        self.force = self.force or force
        self.fired = True


class Outcome(msgspec.Struct, frozen=True):
    """How a command ended. ``exit_code`` None: by ``signal``, or it never ran."""

    exit_code: int | None = None
    signal: str | None = None
    error: str | None = None
    timed_out: bool = False

    @property
    def ok(self) -> bool:
        return self.exit_code == 0 and self.error is None


class Commands:
    """Owns: the processes of one job. ``pause`` blocks while the link is congested and the
    given event is not set."""

    def __init__(self, interrupt: Interrupt, pause: Callable[[Event], None]) -> None:
        self.interrupt = interrupt
        self._pause = pause
        self._released = Event()
        self._open: list[tuple[StepProcess, StepLog]] = []
        #: Where orphans are not adopted: who was left of a command's session at its end.
        self._left: list[processes.Process] = []

    def run(
        self,
        argv: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        log: StepLog,
        timeout_s: float,
    ) -> Outcome:
        """Run to the end; on time-out or interrupt the whole tree is ended first."""

        def on_data(stream: str, data: bytes) -> None:
            log.feed(stream, data, time.monotonic())
            self._pause(self._released)

        try:
            process = StepProcess(argv, cwd=cwd, env=env, on_data=on_data)
        except OSError as error:
            return Outcome(error=f"cannot start {argv[0]}: {error.strerror}")
        except ValueError as error:
            # A NUL in a value, "=" in a name: the text names the fault, never the value.
            return Outcome(error=f"cannot start {argv[0]}: environment: {error}")
        self._open.append((process, log))
        deadline = time.monotonic() + timeout_s
        timed_out = False
        while (code := process.wait(_POLL_S)) is None:
            self.flush_due()
            timed_out = time.monotonic() >= deadline
            if timed_out or self.interrupt.fired:
                self._end_tree(process)
                code = process.wait(1.0)
                break
        if not host.is_linux():
            self._left += processes.tree([], sessions=[process.pid])
        if process.drained(_DRAIN_S):
            self._open.remove((process, log))
            log.end(time.monotonic())
        else:
            log.flush()
            while len(self._open) > MAX_HELD:
                self._let_go(*self._open.pop(0))
        return self._outcome(code, timed_out, timeout_s)

    def flush_due(self) -> None:
        now = time.monotonic()
        for _, log in self._open:
            log.flush_due(now)

    def end_everything(self) -> list[int]:
        """After the job: nothing it started may live on. Returns pids that would not die."""
        survivors = processes.end_all(self._members, grace_s=0.5)
        if not survivors:
            # What is left is two pipes' worth of each command; held back for a slow link,
            # it would be the tail of a log that nobody misses.
            self._released.set()
        deadline = time.monotonic() + (_CUT_S if survivors else _TAIL_S)
        for process, log in self._open:
            if process.drained(max(deadline - time.monotonic(), 0.0)):
                log.end(time.monotonic())
            else:
                self._let_go(process, log)
        self._open.clear()
        return [one.pid for one in survivors]

    def _members(self) -> list[processes.Process]:
        """What the job started and is alive. Elsewhere than on Linux, what left its session
        has at least the worker's mark; a session's number is its own while one of it lives."""
        me = os.getpid()
        if host.is_linux():
            return processes.tree([me])
        sessions = {one.session for one in self._left if processes.alive(one)}
        mark = f"{_MARK}={os.environ[_MARK]}" if _MARK in os.environ else None
        return processes.tree([me], sessions=sessions, mark=mark)

    def _let_go(self, process: StepProcess, log: StepLog) -> None:
        """Read no more of what somebody still holds."""
        process.abandon()
        log.end(time.monotonic(), CUT)

    def _end_tree(self, process: StepProcess) -> None:
        started = time.monotonic()
        grace_s = self.interrupt.grace_s if self.interrupt.fired else GRACE_S

        def members() -> list[processes.Process]:
            found = processes.tree([process.pid], sessions=[process.pid])
            leader = processes.look(process.pid)
            if leader is not None and not leader.zombie:
                found.append(leader)
            if self.interrupt.force and time.monotonic() - started < grace_s:
                for one in found:
                    processes.send(one, signal.SIGKILL)
            self.flush_due()
            return found

        processes.end_all(members, grace_s=0.0 if self.interrupt.force else grace_s)

    def _outcome(self, code: int | None, timed_out: bool, timeout_s: float) -> Outcome:
        name = _signal_name(-code) if code is not None and code < 0 else None
        exit_code = code if code is not None and code >= 0 else None
        if self.interrupt.fired:
            return Outcome(exit_code, name, f"aborted: {self.interrupt.reason}")
        if timed_out:
            text = f"timed out after {timeout_s * 1000:.0f} ms"
            return Outcome(exit_code, name, text, timed_out=True)
        if name is not None:
            return Outcome(None, name, f"killed by {name}")
        if exit_code != 0:
            return Outcome(exit_code, None, f"exit code: {exit_code}")
        return Outcome(exit_code)


def inherited_environment(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: environ[name] for name in INHERITED if name in environ}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


#: The batch time is kept by polling; it must not be shorter than the poll.
assert BATCH_S >= _POLL_S
