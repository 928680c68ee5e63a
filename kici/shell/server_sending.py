"""What the server end of a WebSocket sends: gevent-websocket's, repaired. Its own has no
write lock, no time-out and no close reason, and writes from the garbage collector.
"""

import contextlib
from typing import Any

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore
from geventwebsocket.websocket import WebSocket

from kici.shell import frames
from kici.shell.websocket import ABNORMAL, NO_CODE, Disconnected, cut_reason

#: A peer gets this long to take one slice of a frame; a slow one takes a large frame in many.
WRITE_TIMEOUT_S = 30.0
_SLICE_BYTES = 256 * 1024
#: Reads and writes that never block never yield: give way after so many in a row.
_YIELD_EVERY = 64


class ServerSending(WebSocket):  # type: ignore[misc]
    """Owns: the socket, who may write to it, and how the connection ended."""

    def __init__(self, sock: Any) -> None:
        # Not WebSocket.__init__: it wants a pywsgi handler, and its validator is slow.
        self.environ = {}
        self.closed = False
        self._socket = sock
        self._write_lock = BoundedSemaphore(1)
        self._pong: bytes | None = None
        self._pongs_held = False
        self._close_sent: tuple[int, str] | None = None
        self._end: tuple[int, str] | None = None
        self._ended = Event()
        self._n_calls = 0

    def __del__(self) -> None:
        """Nothing: the original writes a close frame from the garbage collector."""

    def send_text(self, text: str | bytes) -> None:
        payload = text.encode("utf-8") if isinstance(text, str) else text
        self._write(frames.encode_frame(frames.TEXT, payload))
        self._give_way()

    def send_binary(self, payload: bytes) -> None:
        """Write one binary frame; as ``send_text`` else."""
        self._write(frames.encode_frame(frames.BINARY, payload))
        self._give_way()

    def ping(self) -> None:
        self._write(frames.encode_frame(frames.PING, b""))

    def _write(self, data: bytes) -> None:
        if self._end is not None or self._close_sent is not None:
            raise Disconnected(*(self._end or self._close_sent or (ABNORMAL, "")))
        self._write_raw(data)
        # A ping that came while another greenlet held the lock is answered by its holder.
        while self._pong is not None and not self._pongs_held and self._close_sent is None:
            self._answer_ping()

    def _write_raw(self, data: bytes) -> None:
        # Whoever has the lock is in time, or ends the connection.
        with self._write_lock:
            for at in range(0, len(data), _SLICE_BYTES):
                if self._end is not None:
                    raise Disconnected(*self._end)
                self._write_slice(data[at : at + _SLICE_BYTES])

    def _write_slice(self, data: bytes) -> None:
        timeout = gevent.Timeout(WRITE_TIMEOUT_S)
        try:
            with timeout:
                self._send_all(data)
        except gevent.Timeout as caught:
            if caught is not timeout:
                raise
            raise Disconnected(*self._known_end()) from None

    def _send_all(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            self._finish(ABNORMAL, f"write failed: {error.strerror or error}")
            raise Disconnected(*self._known_end()) from None
        except BaseException:
            # A time-out or a kill in the middle of a frame: nobody can continue it.
            self._finish(ABNORMAL, "the other end takes no data")
            raise

    def hold_pongs(self) -> None:
        """Answer no ping until ``give_pongs``: to our agent a pong is the receipt for
        everything it sent before its ping."""
        self._pongs_held = True

    def give_pongs(self) -> None:
        """Answer pings again, first the last one that waited (RFC 6455, 5.5.3)."""
        self._pongs_held = False
        if self._close_sent is None and self._end is None:
            self._answer_ping()

    def _answer_ping(self) -> None:
        if self._pongs_held:
            return
        payload, self._pong = self._pong, None
        if payload is not None:
            self._write_raw(frames.encode_frame(frames.PONG, payload))

    def _say_close(self, code: int, reason: str) -> None:
        encoded = cut_reason(reason)
        self._close_sent = (code, encoded.decode("utf-8"))
        payload = b"" if code == NO_CODE else code.to_bytes(2, "big") + encoded
        with contextlib.suppress(Disconnected):
            self._write_raw(frames.encode_frame(frames.CLOSE, payload))

    def _finish(self, code: int, reason: str) -> None:
        if self._end is not None:
            return
        self._end = (code, reason)
        self.closed = True
        self._ended.set()
        self._socket.close()

    def _known_end(self) -> tuple[int, str]:
        return self._end or (ABNORMAL, "")

    def _give_way(self) -> None:
        self._n_calls += 1
        if self._n_calls % _YIELD_EVERY == 0:
            gevent.sleep(0)
