"""A TCP proxy on loopback that can turn into a bad link: silent, slow, cut, refusing."""

import contextlib
import socket
import struct
import threading
import time

#: Bytes taken from a socket at once.
_CHUNK = 64 * 1024
#: How often a pump looks whether it may go on.
_LOOK_S = 0.01
_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Owns: the listener and every pair of sockets. Threads end with ``close``.

    ``hold``: half-open, nothing is read or forwarded and nothing is closed. ``refuse``: new
    connections are closed at once. ``bytes_a_second``: both ways together of one pair.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._closed = False
        self.hold = False
        self.refuse = False
        self.bytes_a_second: float | None = None
        self.n_connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def heal(self) -> None:
        """Back to a good link; what was held flows on."""
        self.hold = self.refuse = False
        self.bytes_a_second = None

    def cut(self, *, reset: bool = True) -> None:
        """End every connection, with RST or with FIN."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for one in pair:
                with contextlib.suppress(OSError):
                    if reset:
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    one.shutdown(socket.SHUT_RDWR)
                one.close()

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while not self._closed:
            try:
                ours, _address = self._listener.accept()
            except OSError:
                return
            if self.refuse:
                ours.close()
                continue
            try:
                theirs = socket.create_connection(("127.0.0.1", self._target_port), 5)
                theirs.settimeout(None)
            except OSError:
                ours.close()
                continue
            with self._lock:
                self._pairs.append((ours, theirs))
                self.n_connections += 1
            for source, target in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while True:
                self._pause()
                data = source.recv(_CHUNK if self.bytes_a_second is None else 2048)
                # What was in our hands when the link went silent is in the dark too.
                self._pause()
                if not data:
                    break
                target.sendall(data)
                if self.bytes_a_second:
                    time.sleep(len(data) / self.bytes_a_second)
        except OSError:
            pass  # cut: the other pump sees the same
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _pause(self) -> None:
        while self.hold and not self._closed:
            time.sleep(_LOOK_S)
