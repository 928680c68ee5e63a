"""One end of a link between two of our processes, for the gevent children.

Message-preserving socketpairs (``SOCK_SEQPACKET``; ``SOCK_DGRAM`` where that is missing):
a killed process leaves no half message behind. Messages above ``PART_BYTES`` are cut here
and joined on the other side; a message whose sender died in the middle is dropped by the
joiner when the next one begins.
"""

import array
import os
import socket
import struct
from collections.abc import Callable, Sequence

import gevent
import gevent.socket
from gevent.queue import Queue

from kici.contracts.link import Message
from kici.contracts.link.envelope import Envelope, pack, unpack
from kici.errors import KiciError, LocalError
from kici.shell import host

#: A part must fit the kernel's socket buffer (212,992 bytes by default on Linux, far less
#: for datagrams on macOS, where 8 KiB parts are used).
PART_BYTES = 64 * 1024 if host.links_report_eof() else 8 * 1024
#: Buffers of datagram links: macOS gives 2 KiB, too small for one part.
_DATAGRAM_BUFFER_BYTES = 256 * 1024
#: The largest message: a job.reroute of 25 MiB with room for its envelope.
MAX_MESSAGE_BYTES = 32 * 2**20
#: Messages waiting for a slow neighbour before ``send`` blocks the caller.
QUEUE_LENGTH = 1000
#: number of the message, index of the part, count of parts.
_HEADER = struct.Struct(">IHH")
_MAX_FDS = 1


class LinkClosed(KiciError):
    """The other end is gone for good (every holder of it closed it)."""


def socketpair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends, kept by the supervisor and inherited by the children."""
    ends = socket.socketpair(socket.AF_UNIX, host.link_kind())
    if not host.links_report_eof():
        for end in ends:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _DATAGRAM_BUFFER_BYTES)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _DATAGRAM_BUFFER_BYTES)
    return ends


def new_boot_id() -> str:
    """Names one start of one process."""
    return os.urandom(8).hex()


def cut(number: int, data: bytes) -> list[bytes]:
    """The parts of message ``number``, each with its header."""
    n_parts = max(1, -(-len(_checked(data)) // PART_BYTES))
    return [
        _HEADER.pack(number & 0xFFFFFFFF, index, n_parts)
        + data[index * PART_BYTES : (index + 1) * PART_BYTES]
        for index in range(n_parts)
    ]


def _checked(data: bytes) -> bytes:
    if len(data) > MAX_MESSAGE_BYTES:
        raise LocalError(f"link message of {len(data)} bytes is above {MAX_MESSAGE_BYTES}")
    return data


def _ignore(n_bytes: int) -> None:
    """Nobody counts."""


class Joiner:
    """Owns: the parts of the one message that is being received."""

    def __init__(self) -> None:
        self._number = -1
        self._parts: list[bytes] = []

    def feed(self, part: bytes) -> bytes | None:
        """The whole message when ``part`` completes one."""
        number, index, n_parts = _HEADER.unpack_from(part)
        if index == 0:
            self._number, self._parts = number, []
        elif number != self._number or index != len(self._parts):
            return None  # the rest of a message whose beginning another process took
        self._parts.append(part[_HEADER.size :])
        if len(self._parts) < n_parts:
            return None
        whole, self._parts = b"".join(self._parts), []
        return whole


class Link:
    """Owns: one end of a socketpair. ``send`` keeps order; one greenlet writes.

    ``name`` is the process that holds this end; ``neighbour`` the one at the other.
    """

    def __init__(self, fd: int, *, name: str, neighbour: str, boot_id: str) -> None:
        self.name = name
        self.neighbour = neighbour
        self.boot_id = boot_id
        #: Called with the size of each message in either direction; must not block.
        self.passed: Callable[[int], None] = _ignore
        self._socket = gevent.socket.socket(fileno=fd)
        self._socket.setblocking(True)
        self._joiner = Joiner()
        self._number = 0
        self._queue: Queue[tuple[bytes, Sequence[int]]] = Queue(QUEUE_LENGTH)
        self.writer = gevent.spawn(self._write)

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Queue ``message``; blocks this greenlet when the neighbour is far behind.

        Descriptors in ``fds`` (at most one) are closed here once they are passed.
        """
        data = _checked(pack(self.name, self.boot_id, message))
        self.passed(len(data))
        self._queue.put((data, fds))

    def try_send(self, message: Message) -> bool:
        """As ``send``, but False at once when the neighbour is far behind: for views, which
        may be dropped because a snapshot makes up for them."""
        if self._queue.full():
            return False
        self.send(message)
        return True

    def receive(self) -> tuple[Envelope, list[int]]:
        """The next message and the descriptors that came with it; ``LinkClosed`` at EOF."""
        fds: list[int] = []
        while True:
            part, new = self._receive_part()
            fds.extend(new)
            whole = self._joiner.feed(part)
            if whole is not None:
                self.passed(len(whole))
                return unpack(whole), fds

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything queued is written; False when that took too long."""
        with gevent.Timeout(timeout_s, False):
            while self._queue.qsize() or self._writing:
                gevent.sleep(0.005)
            return True
        return False

    def close(self) -> None:
        self.writer.kill()
        self._socket.close()

    _writing = False

    def _write(self) -> None:
        while True:
            data, fds = self._queue.get()
            self._writing = True
            try:
                self._write_parts(data, fds)
            except OSError:
                # EPIPE or ECONNRESET: the reader side reports the end of the link.
                return
            finally:
                self._writing = False
                for fd in fds:
                    # Not os.close: gevent's (25.8 on) closes when the loop turns next, and in
                    # an idle process that is seconds; the pool's own close ends nothing before.
                    socket.close(fd)

    def _write_parts(self, data: bytes, fds: Sequence[int]) -> None:
        self._number += 1
        for index, part in enumerate(cut(self._number, data)):
            if index == 0 and fds:
                socket.send_fds(self._socket, [part], list(fds))
            else:
                self._socket.send(part)

    def _receive_part(self) -> tuple[bytes, list[int]]:
        item_bytes = array.array("i").itemsize
        try:
            part, ancillary, _flags, _address = self._socket.recvmsg(
                PART_BYTES + _HEADER.size, socket.CMSG_SPACE(_MAX_FDS * item_bytes)
            )
        except OSError as error:
            raise LinkClosed(f"link {self.name}-{self.neighbour}: {error}") from error
        if not part:
            raise LinkClosed(f"link {self.name}-{self.neighbour}: closed by {self.neighbour}")
        fds = array.array("i")
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(content[: len(content) - len(content) % item_bytes])
        return part, list(fds)
