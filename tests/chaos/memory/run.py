"""Runs one schedule; shrinks one that fails."""

import os
import random
import shutil
import time
import traceback
from collections.abc import Sequence
from typing import Any

import gevent
from greenlet import GreenletExit

from tests.chaos.memory import check, faults
from tests.chaos.memory.history import History, directory_of
from tests.chaos.memory.loop import Exited, VirtualLoop
from tests.chaos.memory.world import World

#: Virtual seconds within which everything must be settled once the faults are over.
SETTLE_S = 3000.0


def run(loop: VirtualLoop, seed: int, schedule: Sequence[faults.Fault]) -> History:
    """The history of ``seed`` with these faults."""
    random.seed(seed)
    os.urandom = random.randbytes
    loop.wall_jump = 0.0
    loop.time = 1000.0
    directory = directory_of(os.getpid())
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    world = World(loop, seed, directory)
    _watch_errors(world)
    try:
        _play(world, schedule)
    except SystemExit as error:
        world.history.violated(str(error))
    finally:
        world.close()
        loop.clear()
    return world.history


def _play(world: World, schedule: Sequence[faults.Fault]) -> None:
    gevent.sleep(0.05)
    world.configure()
    world.start_worker()
    start = world.now
    for fault in schedule:
        gevent.sleep(max(0.0, start + fault.at - world.now))
        faults.apply(world, fault)
    # Every fault ends by itself; what comes after is peace.
    longest = max((fault.at + fault.lasts for fault in schedule), default=0.0)
    gevent.sleep(max(0.0, start + longest + 6.0 - world.now))
    end = world.now + SETTLE_S
    while world.now < end:
        while check.idle(world) and world.now < end:
            gevent.sleep(5.0)
        gevent.sleep(1.0)
        if not check.idle(world):
            break  # a link that died in silence may have been found out just now
    world.say("checked")
    check.check(world)


def _watch_errors(world: World) -> None:
    """A process whose code raises is a process that crashed: a violation, then a restart."""

    def handle_error(context: Any, kind: Any, value: Any, trace: Any) -> None:
        if isinstance(value, GreenletExit) or world.loop.closing:
            return
        if isinstance(value, SystemExit):
            raise value
        where = traceback.extract_tb(trace)[-1] if trace else None
        place = f"{where.filename}:{where.lineno}" if where else "?"
        text = f"crash: {kind.__name__}: {value} at {place}"
        if not isinstance(value, Exited):
            world.history.violated(text)
            world.say("".join(traceback.format_exception(kind, value, trace)))
        process = world.loop.current
        for name, shell in world.shells.items():
            if shell.process is process:
                world.loop.later(0, None, world.kill_child, name)

    gevent.get_hub().handle_error = handle_error


def shrink(
    loop: VirtualLoop, seed: int, schedule: Sequence[faults.Fault], budget_s: float = 60.0
) -> list[faults.Fault]:
    """The smallest part of ``schedule`` that still fails, by leaving out ever smaller pieces."""
    left, size = list(schedule), max(1, len(schedule) // 2)
    until = time.perf_counter() + budget_s
    while time.perf_counter() < until:
        at, shorter = 0, False
        while at < len(left) and time.perf_counter() < until:
            tried = left[:at] + left[at + size :]
            if run(loop, seed, tried).violations:
                left, shorter = tried, True
            else:
                at += size
        if size == 1 and not shorter:
            break
        size = max(1, size // 2)
    return left
