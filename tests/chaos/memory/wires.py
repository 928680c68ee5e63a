"""WebSockets in memory: two ends, a network between them that can be slow, silent or cut."""

from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event
from websockets.frames import Opcode

from tests.chaos.memory.loop import Process, VirtualLoop

LATENCY_S = 0.002
#: What the kernels of both ends hold for a reader that does not read.
BUFFER_BYTES = 256 * 1024
WRITE_TIMEOUT_S = 30.0


class Wire:
    """Owns: the state of one connection's network. ``log`` counts what was lost in it."""

    def __init__(self, loop: VirtualLoop, name: str) -> None:
        self.loop = loop
        self.name = name
        self.latency = LATENCY_S
        self.silent = False  # half open: nothing arrives, nobody is told
        self.over = False
        self.ends: list[End] = []

    def pair(self, first: Process, second: Process, errors: tuple[Any, Any]) -> tuple[Any, Any]:
        self.ends = [End(self, first, errors[0]), End(self, second, errors[1])]
        self.ends[0].other, self.ends[1].other = self.ends[1], self.ends[0]
        return self.ends[0], self.ends[1]

    def cut(self, *, one_sided: bool = False) -> None:
        """Reset: what is on the way is lost. One-sided: only the first end hears of it."""
        if self.over:
            return
        self.over = True
        for end in self.ends[: 1 if one_sided else 2]:
            self.loop.later(0, end.process, end.finish, 1006, "connection reset")

    def close(self, code: int, reason: str) -> None:
        """A middle box says goodbye to both."""
        if not self.over:
            self.over = True
            for end in self.ends:
                self.loop.later(0, end.process, end.finish, code, reason)

    def died(self, end: "End", *, arrives: bool) -> None:
        """The process of ``end`` is gone; its kernel says so, after what it still held."""
        if self.over:
            return
        if not arrives:
            self.cut()
        elif not self.silent:
            end.transmit(("close", 1006, "closed without a close frame"), 0)
            self.over = True


class End:
    """One end; stands for ``ClientConnection`` and ``ServerConnection`` alike."""

    def __init__(self, wire: Wire, process: Process, error: Any) -> None:
        self.wire, self.process = wire, process
        self.other: End = self
        self.remote = "127.0.0.1:1"
        self.on_control: Callable[[Opcode], None] | None = None
        self.last_heard_at = wire.loop.time
        self._error = error
        self._inbox: deque[tuple[Any, ...]] = deque()
        self._arrived, self._may_read, self._space, self._ended = (Event() for _ in range(4))
        self._may_read.set()
        self._space.set()
        self._pongs_held = self._pong_owed = False
        self._flying = 0  # bytes that the other end has not taken
        self._not_before = 0.0
        self._end: tuple[int, str] | None = None
        self._close_sent: tuple[int, str] | None = None

    @property
    def closed(self) -> bool:
        return self._end is not None

    @property
    def is_open(self) -> bool:
        return self._end is None

    def send_text(self, text: str | bytes) -> None:
        self._send(("text", text.encode() if isinstance(text, str) else text), len(text))

    def ping(self) -> None:
        self._send(("ping",), 2)

    def receive(self, timeout_s: float | None = None) -> bytes:
        if timeout_s is None:
            return self._receive()
        timeout = gevent.Timeout.start_new(timeout_s)
        try:
            return self._receive()
        except gevent.Timeout as fired:
            if fired is not timeout:
                raise
            raise TimeoutError("no message") from None
        finally:
            timeout.close()

    def _receive(self) -> bytes:
        while True:
            if self._end is not None:
                raise self._error(*self._end)
            if not self._may_read.is_set() and self._close_sent is None:
                self._may_read.wait()
            elif self._inbox:
                text = self._take(*self._inbox.popleft())
                if text is not None and self._close_sent is None:
                    return text
            else:
                self._arrived.clear()
                self._arrived.wait()

    def close(self, code: int = 1000, reason: str = "", timeout_s: float = 5.0) -> None:
        if self._end is None and self._close_sent is None:
            self.transmit(("close", code, reason), 4)
            self._close_sent = (code, reason)
            self._may_read.set()
            self._arrived.set()
        self._ended.wait(timeout_s)
        self.finish(code, reason)

    def abort(self) -> None:
        if self._end is None:
            self.finish(1006, "aborted")
            self.wire.died(self, arrives=True)

    def allow(self, max_size: int) -> None:
        """Nothing here is too large."""

    def pause(self) -> None:
        self._may_read.clear()

    def resume(self) -> None:
        self._may_read.set()

    def hold_pongs(self) -> None:
        self._pongs_held = True

    def give_pongs(self) -> None:
        self._pongs_held = False
        if self._pong_owed and self._end is None and self._close_sent is None:
            self._pong_owed = False
            self.transmit(("pong",), 2)

    def silent_s(self) -> float:
        return self.wire.loop.time - self.last_heard_at

    def wait_ended(self, timeout_s: float) -> bool:
        return bool(self._ended.wait(timeout_s))

    # --- the network's side ----------------------------------------------------------

    def transmit(self, item: tuple[Any, ...], n_bytes: int) -> None:
        loop = self.wire.loop
        self._flying += n_bytes
        if self.wire.silent or self.wire.over:
            return
        at = max(self._not_before, loop.time + self.wire.latency)
        self._not_before = at
        loop.later(at - loop.time, self.other.process, self.other.arrive, item, n_bytes)

    def arrive(self, item: tuple[Any, ...], n_bytes: int) -> None:
        if self._end is None and not (self.wire.silent or (self.wire.over and item[0] != "close")):
            self._inbox.append((item, n_bytes))
            self._arrived.set()

    def finish(self, code: int, reason: str) -> None:
        if self._end is None:
            self._end = (code, reason)
            for event in (self._arrived, self._may_read, self._space, self._ended):
                event.set()

    def taken(self, n_bytes: int) -> None:
        self._flying -= n_bytes
        if self._flying < BUFFER_BYTES:
            self._space.set()

    def _send(self, item: tuple[Any, ...], n_bytes: int) -> None:
        if self._end is not None or self._close_sent is not None:
            raise self._error(*(self._end or self._close_sent or (1006, "")))
        if self._flying >= BUFFER_BYTES:
            self._space.clear()
            if not self._space.wait(WRITE_TIMEOUT_S):
                self.finish(1006, "write timed out")
            if self._end is not None:
                raise self._error(*self._end)
        self.transmit(item, n_bytes)

    def _take(self, item: tuple[Any, ...], n_bytes: int) -> bytes | None:
        self.last_heard_at = self.wire.loop.time
        loop = self.wire.loop
        loop.later(0, self.other.process, self.other.taken, n_bytes)
        kind = item[0]
        if kind == "text":
            return item[1]
        if kind == "ping":
            self._pong_owed = True
            if not self._pongs_held:
                self.give_pongs()
            if self.on_control is not None:
                self.on_control(Opcode.PING)
        elif kind == "pong" and self.on_control is not None:
            self.on_control(Opcode.PONG)
        elif kind == "close":
            if self._close_sent is None:
                self._close_sent = (item[1], item[2])
                self.transmit(("close", item[1], ""), 4)
                self.finish(item[1], item[2])
            else:
                self.finish(*self._close_sent)
        return None
