"""A gevent loop with a virtual clock, whose work belongs to processes that can be killed.

``install`` must run before anything of kici is imported: modules bind ``time.monotonic``.
Each callback and timer carries the process in whose name it was made; what it makes inherits
that. A killed process' work never runs again (no ``finally``, as with SIGKILL), a paused
one's waits (SIGSTOP).
"""

import gc
import heapq
import itertools
import os
import time
from collections import deque
from typing import Any

from gevent import hub as gevent_hub

#: The wall clock at virtual second 0.
WALL = 1_790_000_000.0
#: Callbacks without any passing of time: more is a busy loop of ours.
MAX_BURST = 200_000


class Process:
    """One simulated process, for its one life."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.stash: list[Any] = []
        self.on_death: list[Any] = []


class _Work:
    """A callback; the interface is that of gevent's loops."""

    __slots__ = ("args", "callback", "process")

    def __init__(self, callback: Any, args: Any, process: Process | None) -> None:
        self.callback, self.args, self.process = callback, args, process

    def stop(self) -> None:
        self.callback = self.args = None

    close = stop

    def __bool__(self) -> bool:
        return self.args is not None

    @property
    def pending(self) -> bool:
        return self.callback is not None


class _Timer:
    def __init__(self, loop: "VirtualLoop", after: float, repeat: float) -> None:
        self._loop = loop
        self._after, self._repeat = max(0.0, after), repeat
        self.callback: Any = None
        self.args: Any = None
        self.generation = 0
        self.process = loop.current
        self.ref = True

    def start(self, callback: Any, *args: Any, **_: Any) -> None:
        self.callback, self.args = callback, args
        self.process = self._loop.current
        self._loop.schedule(self, self._after)

    def again(self, callback: Any, *args: Any, **_: Any) -> None:
        self.callback, self.args = callback, args
        self._loop.schedule(self, self._repeat or self._after)

    def stop(self) -> None:
        self.generation += 1
        self.callback = self.args = None

    close = stop

    @property
    def active(self) -> bool:
        return self.callback is not None

    pending = active

    def fire(self) -> None:
        callback, args = self.callback, self.args
        if self._repeat:
            self._loop.schedule(self, self._repeat)
        else:
            self.stop()
        if callback is not None:
            callback(*args)

    def __enter__(self) -> "_Timer":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class VirtualLoop:
    """Owns: virtual time and everything that shall happen."""

    default = True
    MAXPRI = MINPRI = 0
    approx_timer_resolution = 0.0
    error_handler: Any = None

    def __init__(self, *_: Any, **__: Any) -> None:
        self.time = 1000.0
        self.wall_jump = 0.0
        self.current: Process | None = None
        self._ready: deque[_Work] = deque()
        self._timers: list[tuple[float, int, int, _Timer]] = []
        self._numbers = itertools.count()
        self._burst = 0
        self.graveyard: list[Any] = []
        self.closing = False

    # --- what gevent wants of a loop -------------------------------------------------

    def run(self, *_: Any, **__: Any) -> None:
        while True:
            while self._ready:
                self._burst += 1
                if self._burst > MAX_BURST:
                    self._burst = 0
                    self.time += 0.001
                    raise SystemExit("busy loop: no time passes")
                work = self._ready.popleft()
                self._do(work.process, work, self._run_work)
            if not self._timers:
                return
            at, _number, generation, timer = heapq.heappop(self._timers)
            if generation != timer.generation:
                continue
            if at > self.time:
                self._burst = 0
                self.time = at
            self._do(timer.process, timer, _Timer.fire)

    def timer(self, after: float, repeat: float = 0.0, **_: Any) -> _Timer:
        return _Timer(self, after, repeat)

    def run_callback(self, callback: Any, *args: Any) -> _Work:
        work = _Work(callback, args, self.current)
        self._ready.append(work)
        return work

    run_callback_threadsafe = run_callback

    def now(self) -> float:
        return self.time

    def update_now(self) -> None:
        """Virtual time is always right."""

    update = update_now

    def reinit(self) -> None:
        """There is nothing that a fork could break."""

    def destroy(self) -> bool:
        return True

    def debug(self) -> list[Any]:
        return []

    def handle_error(self, context: Any, kind: Any, value: Any, trace: Any) -> None:
        handler = self.error_handler
        if handler is not None:
            handler.handle_error(context, kind, value, trace)

    # --- for the simulation ----------------------------------------------------------

    def schedule(self, timer: _Timer, after: float) -> None:
        timer.generation += 1
        entry = (self.time + after, next(self._numbers), timer.generation, timer)
        heapq.heappush(self._timers, entry)

    def later(self, after: float, process: Process | None, callback: Any, *args: Any) -> None:
        """Call in the name of ``process``, as the kernel or another process makes it."""
        timer = _Timer(self, after, 0.0)
        timer.callback, timer.args, timer.process = callback, args, process
        self.schedule(timer, after)

    def kill(self, process: Process) -> None:
        process.alive = False
        process.paused = False
        self.graveyard.append(process.stash)
        process.stash = []

    def resume(self, process: Process) -> None:
        process.paused = False
        stash, process.stash = process.stash, []
        for item in stash:
            if isinstance(item, _Timer):
                item.generation += 1
                entry = (self.time, next(self._numbers), item.generation, item)
                heapq.heappush(self._timers, entry)
            else:
                self._ready.append(item)

    def clear(self) -> None:
        """Forget everything: the schedule is over. Greenlets that are collected now may run
        their ``finally``; what they want done is forgotten, too."""
        self.closing = True
        self._ready.clear()
        self._timers.clear()
        self.graveyard.clear()
        gc.collect()
        self._ready.clear()
        self._timers.clear()
        self.closing = False

    def _do(self, process: Process | None, item: Any, how: Any) -> None:
        if process is not None:
            if not process.alive:
                self.graveyard.append(item)
                return
            if process.paused:
                process.stash.append(item)
                return
        self.current = process
        try:
            how(item)
        except BaseException as error:  # noqa: BLE001 - as gevent's loops do
            self.handle_error(item, type(error), error, error.__traceback__)
        finally:
            self.current = None

    @staticmethod
    def _run_work(work: _Work) -> None:
        callback, args = work.callback, work.args
        work.stop()
        if callback is not None:
            callback(*args)


def install() -> VirtualLoop:
    """Give this process its virtual loop and clocks."""
    loop = VirtualLoop()
    gevent_hub.set_hub(gevent_hub.Hub(loop))
    time.monotonic = lambda: loop.time
    time.time = lambda: WALL + loop.time + loop.wall_jump
    os._exit = _exited
    return loop


class Exited(BaseException):
    """A simulated process called ``os._exit``."""


def _exited(code: int) -> None:
    raise Exited(f"exit {code}")
