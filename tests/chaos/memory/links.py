"""The links between the worker's processes: a kernel queue that survives either end."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import gevent
from gevent.event import Event
from gevent.queue import Queue

from kici.config.model import Config
from kici.contracts.link import Message
from kici.contracts.link.envelope import pack, unpack
from kici.contracts.link.lifecycle import Hello
from kici.shell.child import INBOX_LENGTH, Received
from tests.chaos.memory.loop import Process, VirtualLoop

#: Messages that fit into the kernel's socket buffer.
KERNEL = 60


class Kernel:
    """One direction of one link."""

    def __init__(self) -> None:
        self.queue: deque[bytes] = deque()
        self.reader: Any = None
        self.writer: Any = None


class SimShell:
    """Stands for ``ChildShell``. ``kernels[(from, to)]`` are the directions that exist;
    messages to others (web, supervisor) go to ``told``."""

    def __init__(
        self, loop: VirtualLoop, process: Process, name: str, config: Config,
        kernels: dict[tuple[str, str], Kernel], told: Any,
    ) -> None:  # fmt: skip
        self.name, self.config, self.process = name, config, process
        self.boot_id = f"{name}-{loop.time}"
        self.inbox: Queue[Received] = Queue(INBOX_LENGTH)
        self._loop, self._kernels, self._told = loop, kernels, told
        self._outgoing: dict[str, deque[bytes]] = {}
        self._room: dict[str, Event] = {}
        for (source, target), kernel in kernels.items():
            if target == name:
                kernel.reader = Event()
                kernel.reader.set()
                kernel.reader_process = process
                gevent.spawn(self._read, kernel)
            if source == name:
                kernel.writer = Event()
                kernel.writer_process = process
                self._outgoing[target] = deque()
                self._room[target] = Event()
                gevent.spawn(self._write, target, kernel)
                self.tell(target, Hello(name=name, pid=1))

    def tell(self, to: str, message: Message, fds: Sequence[int] = ()) -> None:
        data = pack(self.name, self.boot_id, message)
        if to not in self._outgoing:
            self._told(self.name, message)
            return
        waiting = self._outgoing[to]
        while len(waiting) >= 1000:
            self._room[to].clear()
            self._room[to].wait()
        waiting.append(data)
        self._kernels[(self.name, to)].writer.set()

    def try_tell(self, to: str, message: Message) -> bool:
        self.tell(to, message)
        return True

    def ready(self) -> None:
        """The simulated supervisor does not wait for it."""

    def fail(self, reason: str, *, configuration: bool = False) -> None:
        raise AssertionError(f"{self.name} cannot boot: {reason}")

    def flush(self, timeout_s: float) -> None:
        with gevent.Timeout(timeout_s, False):
            while any(self._outgoing.values()):
                gevent.sleep(0.005)

    def deliver(self, sender: str, message: Message) -> None:
        """From the supervisor."""
        self.inbox.put_nowait(Received(sender, "supervisor-1", message))

    def _write(self, target: str, kernel: Kernel) -> None:
        waiting = self._outgoing[target]
        while True:
            kernel.writer.wait()
            kernel.writer.clear()
            while waiting and len(kernel.queue) < KERNEL:
                kernel.queue.append(waiting.popleft())
                if kernel.reader is not None:
                    self._loop.later(0, kernel.reader_process, kernel.reader.set)
            if len(waiting) < 1000:
                self._room[target].set()

    def _read(self, kernel: Kernel) -> None:
        while True:
            kernel.reader.wait()
            kernel.reader.clear()
            while kernel.queue:
                envelope = unpack(kernel.queue.popleft())
                if kernel.writer is not None:
                    self._loop.later(0, kernel.writer_process, kernel.writer.set)
                self.inbox.put(Received(envelope.sender, envelope.boot_id, envelope.body))
