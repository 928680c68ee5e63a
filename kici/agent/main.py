"""The agent's loop: socket, machine, job, signals. Decides nothing (house.md 5)."""

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
from websockets.exceptions import WebSocketException
from websockets.frames import Opcode

from kici.agent import facts
from kici.agent.jobs import JobRun
from kici.agent.settings import AgentSettings
from kici.contracts.wire.agent import MAX_FRAME_BYTES
from kici.protocol.agent_client import (
    AgentClient,
    AgentIdentity,
    CancelJob,
    Dial,
    Exit,
    Ping,
    RunJob,
)
from kici.protocol.machine import Actions, Close, Note, Send
from kici.shell.processes import adopt_orphans
from kici.shell.websocket_client import ClientConnection, ConnectFailed, Disconnected, connect

log = logging.getLogger("kici.agent")

CONNECT_TIMEOUT_S = 15.0
#: Frames a second (A92): a burst of 50 and 150 a second never exceed 200 in any second.
_FRAME_RATE, _FRAME_BURST = 150.0, 50.0
#: Text waiting for the socket beyond which log readers wait.
_HIGH_WATER_BYTES = 1024 * 1024
#: Close frame of the last connection (scaler spec 2.9 gives it 1 s).
_CLOSE_S = 1.0
#: The loop looks at its flags at least this often.
_IDLE_WAIT_S = 5.0


class Agent:
    """Owns: one connection at a time, its writer, and the running job's greenlet."""

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
        self._connection: ClientConnection | None = None
        self._outgoing: deque[str | None] = deque()
        self._outgoing_bytes = 0
        self._writable, self._sendable, self._woken = Event(), Event(), Event()
        self._writable.set()
        self._job: JobRun | None = None
        self._exit: Exit | None = None
        self._signals: deque[int] = deque()
        self._closing: gevent.Greenlet | None = None

    def run(self) -> int:
        """Until the machine says so; returns the exit code."""
        adopt_orphans()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            gevent.signal_handler(number, self._signalled, number)
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
        if self._closing is not None:
            self._closing.join(_CLOSE_S)
        log.info("Agent ends: %s", self._exit.reason)
        return self._exit.code

    def perform(self, actions: Actions) -> None:
        """Do what the machine says; called from any greenlet, never blocks."""
        for action in actions:
            match action:
                case Send(text=text):
                    self._queue(text)
                case Ping():
                    self._queue(None)
                case Note(level=level, message=message, fields=fields):
                    _note(level, message, fields)
                case Dial():
                    gevent.spawn(self._connect)
                case Close(code=code, reason=reason):
                    self._close(code, reason)
                case RunJob(dispatch=dispatch):
                    self._job = JobRun(dispatch, self._settings, self)
                    gevent.spawn(self._job.run).link_exception(_crash)
                case CancelJob(reason=reason, force=force, on_request=on_request):
                    if self._job is not None:
                        self._job.cancel(reason, force=force, on_request=on_request)
                case Exit():
                    self._exit = action
        self._woken.set()

    # --- what a running job says (jobs.Reporter) -------------------------------------

    def log(self, step_index: int, lines: tuple[str, ...], stream: str) -> None:
        now = time.monotonic()
        at_ms = int(time.time() * 1000)
        self.perform(self.machine.job_log(step_index, lines, stream, at_ms, now))

    def step(self, step_index: int, name: str, state: str, **more: Any) -> None:
        self.perform(self.machine.job_step(step_index, name, state, time.monotonic(), **more))

    def finished(self, state: str, data: dict[str, Any]) -> None:
        self.perform(self.machine.job_finished(state, data, time.monotonic()))

    def cleaned(self) -> None:
        self._job = None
        self.perform(self.machine.job_cleaned(time.monotonic()))

    def pause(self) -> None:
        """While the link is up but slow; a link that is down sheds instead."""
        while (
            self.machine.registered
            and not self._settings.drop_on_backpressure
            and (self._outgoing_bytes > _HIGH_WATER_BYTES or self.machine.outbox.congested)
        ):
            self._writable.clear()
            self._writable.wait(1.0)

    # --- the socket ------------------------------------------------------------------

    def _connect(self) -> None:
        try:
            connection = connect(
                self._settings.url, timeout_s=CONNECT_TIMEOUT_S, max_size=MAX_FRAME_BYTES
            )
        except ConnectFailed as error:
            self.perform(self.machine.lost(str(error), time.monotonic()))
            return
        if self._exit is not None:
            connection.abort()
            return
        self._connection = connection
        self._outgoing.clear()
        self._outgoing_bytes = 0
        connection.on_control = lambda opcode: self._control(connection, opcode)
        self.perform(self.machine.opened(time.monotonic()))
        gevent.spawn(self._write, connection).link_exception(_crash)
        try:
            while True:
                message = connection.receive()
                if connection is not self._connection:
                    break
                self.perform(self.machine.receive(message, time.monotonic()))
        except Disconnected as error:
            if connection is self._connection:
                self._forget_connection()
                self.perform(self.machine.lost(error.reason, time.monotonic(), error.code))

    def _control(self, connection: ClientConnection, opcode: Opcode) -> None:
        if connection is not self._connection:
            return
        now = time.monotonic()
        if opcode is Opcode.PONG:
            self.perform(self.machine.ponged(now))
            self._writable.set()
        else:
            self.machine.heard(now)

    def _write(self, connection: ClientConnection) -> None:
        tokens, at = _FRAME_BURST, time.monotonic()
        try:
            while connection is self._connection:
                if not self._outgoing:
                    self._sendable.clear()
                    self._sendable.wait(_IDLE_WAIT_S)
                    continue
                now = time.monotonic()
                tokens, at = min(tokens + (now - at) * _FRAME_RATE, _FRAME_BURST), now
                if tokens < 1:
                    gevent.sleep((1 - tokens) / _FRAME_RATE)
                    continue
                tokens -= 1
                self._write_one(connection)
        except (Disconnected, WebSocketException):
            # The latter: the worker's close frame is read and ours is under way. The
            # reader reports the end.
            connection.abort()

    def _write_one(self, connection: ClientConnection) -> None:
        text = self._outgoing.popleft()
        if text is None:
            connection.ping()
            return
        self._outgoing_bytes -= len(text)
        connection.send_text(text)
        if self._outgoing_bytes <= _HIGH_WATER_BYTES:
            self._writable.set()

    def _queue(self, text: str | None) -> None:
        if self._connection is None:
            return
        self._outgoing.append(text)
        self._outgoing_bytes += len(text or "")
        self._sendable.set()

    def _close(self, code: int, reason: str) -> None:
        connection = self._connection
        if connection is None:
            return
        rest = [text for text in self._outgoing if text is not None]
        self._forget_connection()

        def close() -> None:
            try:
                for text in rest:
                    connection.send_text(text)
                connection.close(code, reason, timeout_s=_CLOSE_S)
            except (Disconnected, WebSocketException):
                connection.abort()

        self._closing = gevent.spawn(close)

    def _forget_connection(self) -> None:
        self._connection = None
        self._outgoing.clear()
        self._outgoing_bytes = 0
        self._sendable.set()
        self._writable.set()

    # --- signals ---------------------------------------------------------------------

    def _signalled(self, number: int) -> None:
        self._signals.append(number)
        self._woken.set()

    def _take_signals(self) -> None:
        while self._signals:
            number = self._signals.popleft()
            now = time.monotonic()
            drain = number == signal.SIGUSR1
            self.perform(self.machine.drain(now) if drain else self.machine.stop(now))


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
    os._exit(70)
