"""The supervisor's end of a control link: non-blocking, without a gevent hub.

Looks like an asyncore dispatcher to the loop of the ``supervisor`` package, which calls
``handle_*_event`` when ``readable()``/``writable()`` asked for it. Nothing here raises: an
exception in a dispatcher would end that loop.
"""

import errno
import logging
import socket
import struct
from collections import deque
from collections.abc import Callable

import msgspec

from kici.contracts.link import Message
from kici.contracts.link.envelope import Envelope, pack, unpack
from kici.shell.link import PART_BYTES, Joiner, cut

_log = logging.getLogger("kici.supervisor")

#: Parts waiting for a child that does not read. Its socket holds some hundred more; a child
#: that is so far behind is hung and the pings will say so.
QUEUE_LENGTH = 256
#: Messages taken in one turn of the loop, so that one chatty child cannot hold it.
_N_PER_TURN = 100
_HEADER_BYTES = 8


class ControlLink:
    """Owns: one end of a control link. ``on_message(envelope)`` is called for each message."""

    def __init__(
        self,
        end: socket.socket,
        *,
        neighbour: str,
        boot_id: str,
        on_message: Callable[[Envelope], None],
    ) -> None:
        end.setblocking(False)
        self.neighbour = neighbour
        self.closed = False
        self.deaf = False
        self.n_dropped = 0
        self._socket = end
        self._boot_id = boot_id
        self._on_message = on_message
        self._joiner = Joiner()
        self._parts: deque[bytes] = deque()
        self._number = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Message) -> bool:
        """Queue and write what the socket takes now; False when ``message`` was dropped."""
        if self.closed or self.deaf:
            return False
        self._number += 1
        parts = cut(self._number, pack("supervisor", self._boot_id, message))
        if len(self._parts) + len(parts) > QUEUE_LENGTH:
            self.n_dropped += 1
            return False
        self._parts.extend(parts)
        self.handle_write_event()
        return True

    def readable(self) -> bool:
        return not self.closed

    def writable(self) -> bool:
        return bool(self._parts)

    def handle_write_event(self) -> None:
        while self._parts:
            try:
                self._socket.send(self._parts[0])
            except BlockingIOError:
                return
            except OSError as error:
                # ENOBUFS is how macOS says "full"; all else is the end of the child.
                if error.errno != errno.ENOBUFS:
                    # Only writing ends: its last words may still wait to be read.
                    self.deaf = True
                    self._parts.clear()
                return
            self._parts.popleft()

    def handle_read_event(self) -> None:
        for _ in range(_N_PER_TURN):
            if self.closed:
                return
            try:
                part = self._socket.recv(PART_BYTES + _HEADER_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self._end(str(error))
                return
            if not part:
                self._end("closed")
                return
            self._take(part)

    def handle_error(self) -> None:
        """Called by the loop inside an ``except``: a bug in what a message led to."""
        _log.exception("A message could not be handled", extra={"neighbour": self.neighbour})

    def close(self) -> None:
        self.closed = True
        self._parts.clear()
        self._socket.close()

    def _take(self, part: bytes) -> None:
        try:
            whole = self._joiner.feed(part)
            envelope = None if whole is None else unpack(whole)
        except (msgspec.MsgspecError, struct.error) as error:
            _log.error(
                "A control message was not understood",
                extra={"neighbour": self.neighbour, "error": str(error)},
            )
            return
        if envelope is not None:
            self._on_message(envelope)

    def _end(self, why: str) -> None:
        """Stop reading and writing; the reaper closes it. The death itself comes by SIGCHLD."""
        self.closed = True
        self._parts.clear()
        _log.debug("Control link ended", extra={"neighbour": self.neighbour, "error": why})
