"""The agent's loop: socket, machine, job, signals. Decides nothing."""

import logging
import os
import random
import signal
import sys
import time
import uuid
from collections import deque
from typing import Any

import gevent
from gevent.event import Event

from kici.agent import facts, probes
from kici.agent.dropping import Dropping
from kici.agent.jobs import JobRun
from kici.agent.own_logs import OwnLogs, bundle
from kici.agent.settings import AgentSettings
from kici.agent.wire import Wire
from kici.protocol.agent_client import AgentClient
from kici.protocol.agent_speech import (
    AgentIdentity,
    CancelJob,
    Dial,
    Exit,
    GiveLogs,
    Ping,
    RunJob,
)
from kici.protocol.machine import Actions, Close, Note, Send
from kici.shell.processes import adopt_orphans

log = logging.getLogger("kici.agent")

#: EX_SOFTWARE (docs/agent.md).
_EXIT_INTERNAL = 70
#: The loop looks at its flags at least this often.
_IDLE_WAIT_S = 5.0
#: A reader that waits for a slow link looks this often whether it is let go.
_PAUSE_S = 0.1


class Agent:
    """Owns: the machine, the running job's greenlet and the way out."""

    def __init__(self, settings: AgentSettings) -> None:
        self._settings = settings
        identity = AgentIdentity(
            agent_id=settings.agent_id,
            labels=facts.labels(settings),
            token=settings.token,
            facts=facts.register_facts(settings),
            scaler_managed=settings.scaler_managed,
            idle_timeout_s=max(settings.idle_timeout_s, 0.0),
            pending_timeout_s=settings.pending_timeout_s,
            job_heartbeat_s=settings.job_heartbeat_s,
        )
        self.machine = AgentClient(
            identity,
            wall_ms=lambda: int(time.time() * 1000),
            new_id=_new_ids(),
            random=random.random,
        )
        self._wire = Wire(settings.url, self, on_crash=_crash)
        self._woken = Event()
        self._job: JobRun | None = None
        self._dropping = Dropping()
        self._exit: Exit | None = None
        self._signals: deque[int] = deque()
        self._own_logs, self._started_at = OwnLogs(), time.time()
        logging.getLogger().addHandler(self._own_logs)

    def run(self) -> int:
        """Until the machine says so; returns the exit code."""
        adopt_orphans()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            gevent.signal_handler(number, self._signalled, number)
        if self._settings.port:
            probes.serve(self._settings.host, self._settings.port, self._look)
        self.perform(self.machine.start(time.monotonic()))
        while self._exit is None:
            self._woken.clear()
            self._take_signals()
            now = time.monotonic()
            deadline = self.machine.deadline
            if deadline is not None and deadline <= now:
                self.perform(self.machine.tick(now))
                continue
            wait_s = _IDLE_WAIT_S if deadline is None else min(deadline - now, _IDLE_WAIT_S)
            self._woken.wait(wait_s)
        self._wire.end()
        log.info("Agent ends: %s", self._exit.reason)
        return self._exit.code

    def perform(self, actions: Actions) -> None:
        """Do what the machine says; called from any greenlet, never blocks."""
        for action in actions:
            match action:
                case Send(text=text):
                    self._wire.queue(text)
                case Ping():
                    self._wire.queue(None)
                case Note(level=level, message=message, fields=fields):
                    _note(level, message, fields)
                case Dial():
                    self._wire.dial()
                case Close(code=code, reason=reason):
                    self._wire.close(code, reason)
                case RunJob(dispatch=dispatch):
                    self._job = JobRun(dispatch, self._settings, self)
                    gevent.spawn(self._job.run).link_exception(_crash)
                case CancelJob(reason=reason, force=force, on_request=on_request):
                    if self._job is not None:
                        self._job.cancel(reason, force=force, on_request=on_request)
                case GiveLogs():
                    gevent.spawn(self._give_logs, action).link_exception(_crash)
                case Exit():
                    self._exit = action
        self._woken.set()

    # --- what a running job says (jobs.Reporter) -------------------------------------

    def log(self, step_index: int, lines: tuple[str, ...], stream: str) -> None:
        if self._settings.drop_on_backpressure and self._congested():
            self._dropping.drop(step_index, len(lines))
            return
        self._say(step_index, self._dropping.marker(step_index) + lines, stream)

    def step(self, step_index: int, name: str, state: str, **more: Any) -> None:
        if state != "running" and (marker := self._dropping.marker(step_index)):
            self._say(step_index, marker, "stdout")
        self.perform(self.machine.job_step(step_index, name, state, time.monotonic(), **more))

    def finished(self, state: str, data: dict[str, Any]) -> None:
        for step_index, marker in self._dropping.rest():
            self._say(step_index, marker, "stdout")
        self.perform(self.machine.job_finished(state, data, time.monotonic()))

    def cleaned(self) -> None:
        self._job = None
        self.perform(self.machine.job_cleaned(time.monotonic()))

    def pause(self, released: Event) -> None:
        """While the link is up but slow; a link that is down sheds instead."""
        if self._settings.drop_on_backpressure:
            return
        while self._congested() and not released.is_set():
            self._wire.wait_writable(_PAUSE_S)

    def _congested(self) -> bool:
        slow = self._wire.congested or self.machine.outbox.congested
        return slow and self.machine.registered

    def _say(self, step_index: int, lines: tuple[str, ...], stream: str) -> None:
        now, at_ms = time.monotonic(), int(time.time() * 1000)
        self.perform(self.machine.job_log(step_index, lines, stream, at_ms, now))

    # --- what the wire says (wire.Hearer) ---------------------------------------------

    def opened(self) -> None:
        self.perform(self.machine.opened(time.monotonic()))

    def received(self, message: str | bytes) -> None:
        self.perform(self.machine.receive(message, time.monotonic()))

    def ponged(self) -> None:
        self.perform(self.machine.ponged(time.monotonic()))

    def heard(self) -> None:
        self.machine.heard(time.monotonic())

    def lost(self, reason: str, code: int) -> None:
        self.perform(self.machine.lost(reason, time.monotonic(), code))

    # --- signals and probes -----------------------------------------------------------

    def _signalled(self, number: int) -> None:
        self._signals.append(number)
        self._woken.set()

    def _take_signals(self) -> None:
        while self._signals:
            number = self._signals.popleft()
            now = time.monotonic()
            drain = number == signal.SIGUSR1
            self.perform(self.machine.drain(now) if drain else self.machine.stop(now))

    def _give_logs(self, wanted: GiveLogs) -> None:
        job = self._job
        content = bundle(
            self._settings,
            self._own_logs.since(time.time() - wanted.hours * 3600, wanted.max_bytes),
            job.mask if job is not None else str,
            registered=self.machine.registered,
            n_active=self.machine.n_active,
            started_at=self._started_at,
        )
        self.perform(self.machine.logs_made(wanted.request_id, content))

    def _look(self) -> tuple[bool, int]:
        return self.machine.registered, 0 if self._job is None else 1


def _new_ids():
    """Unique message ids, cheaper than a UUID each."""
    prefix, number = uuid.uuid4().hex[:12], iter(range(1, 2**62))
    return lambda: f"{prefix}-{next(number)}"


def _note(level: str, message: str, fields: Any) -> None:
    text = " ".join(f"{key}={value}" for key, value in fields.items())
    log.log(getattr(logging, level.upper()), "%s%s", message, f" ({text})" if text else "")


def _crash(greenlet: gevent.Greenlet) -> None:
    """A bug of ours: end loudly, the children with us."""
    sys.stderr.write(f"kici-agent: internal error: {greenlet.exception!r}\n")
    sys.stderr.flush()
    os._exit(_EXIT_INTERNAL)
