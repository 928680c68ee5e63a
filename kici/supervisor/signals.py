"""Signals as a queue: a handler puts a number in it and nothing else (design rule 6)."""

import os
import signal
from collections import deque

#: What the worker answers to. USR1 and USR2 are taken so that they are harmless (W137).
HANDLED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGCHLD,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
#: More signals than anybody sends while one turn of the loop lasts.
_QUEUE_LENGTH = 64
_READ_BYTES = 4096


class SignalQueue:
    """Owns: the signals that came, and the pipe that wakes the loop's poll.

    A dispatcher of that loop (``get_socket_map``). Python retries an interrupted poll
    (PEP 475), so only a readable descriptor wakes it.
    """

    def __init__(self) -> None:
        self._queue: deque[int] = deque(maxlen=_QUEUE_LENGTH)
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in HANDLED:
            signal.signal(number, self._receive)

    def fileno(self) -> int:
        return self._reader

    def take(self) -> list[int]:
        """The signals since the last call, in order; SIGCHLD is not among them."""
        taken = []
        while self._queue:
            taken.append(self._queue.popleft())
        return taken

    def wake(self) -> None:
        """Make the next poll return at once."""
        try:
            os.write(self._writer, b"\0")
        except BlockingIOError:
            pass  # full: it will return at once anyway

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        try:
            os.read(self._reader, _READ_BYTES)
        except BlockingIOError:
            pass

    def handle_write_event(self) -> None:
        """Never asked for."""

    def handle_error(self) -> None:
        """Reading a pipe of our own does not fail."""

    def close(self) -> None:
        """Ignore what still comes: the process is about to exit with the code it has."""
        for number in HANDLED:
            is_child = number == signal.SIGCHLD
            signal.signal(number, signal.SIG_DFL if is_child else signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        os.close(self._reader)
        os.close(self._writer)

    def _receive(self, number: int, _frame: object) -> None:
        if number != signal.SIGCHLD:
            self._queue.append(number)


def reset_in_child() -> None:
    """Undo ``SignalQueue`` in a forked child.

    HUP and the USRs, sent by somebody to everything named kici-worker, stay harmless. They
    get a handler, not SIG_IGN, because jobs started by the child would inherit the latter.
    SIGPIPE stays ignored, as Python has set it.
    """
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, _harmless)


def _harmless(_number: int, _frame: object) -> None:
    pass
