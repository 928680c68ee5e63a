"""The order in which one connection sends: answers, reports that wait for nothing, a piece
of a log bundle, then steps and logs. A report waits for its job's steps and logs."""

import time
from collections import deque
from typing import Protocol

from gevent.event import Event

from kici.contracts.link import JobKey
from kici.peer.outflow import Outflow

#: A piece of a log bundle that is not written by then will never be.
PIECE_TIMEOUT_S = 45.0


class Way(Protocol):
    """The connection, for its writer. Each send returns False when the connection is over."""

    @property
    def is_open(self) -> bool: ...
    def send(self, plaintext: bytes) -> bool: ...
    def send_report(self, key: JobKey) -> bool: ...
    def send_ping(self) -> bool:
        """If one is needed."""


class Writer:
    """Owns: what waits to be sent on one connection. Told by: whoever has something to say."""

    def __init__(self, outflow: Outflow) -> None:
        self._outflow = outflow
        self._answers: deque[bytes] = deque()
        self._reports: deque[JobKey] = deque()
        self._held: set[JobKey] = set()
        self._piece: bytes | None = None
        self._piece_written = Event()

    def answer(self, plaintext: bytes) -> None:
        """A small message that goes before all others (answers to reroutes)."""
        self._answers.append(plaintext)
        self._outflow.ready.set()

    def report(self, key: JobKey) -> None:
        """The terminal report of ``key``, once its steps and logs are out."""
        if self._outflow.pending(key):
            self._held.add(key)
        elif key not in self._reports:
            self._reports.append(key)
        self._outflow.ready.set()

    def piece(self, plaintext: bytes) -> bool:
        """A piece of a log bundle in between; returns when it is written, False when the
        connection is over. One caller at a time."""
        self._piece_written.clear()
        self._piece = plaintext
        self._outflow.ready.set()
        return self._piece_written.wait(PIECE_TIMEOUT_S)

    def write(self, way: Way) -> None:
        """Until the connection is over."""
        while True:
            self._outflow.ready.wait()
            if not way.is_open:
                self._outflow.ready.clear()
            elif not self._write_one(way):
                return

    def _write_one(self, way: Way) -> bool:
        if self._answers:
            return way.send(self._answers.popleft())
        if self._reports:
            return way.send_report(self._reports.popleft())
        if self._piece is not None:
            return self._write_piece(way, self._piece)
        frame = self._outflow.first()
        if frame is None:
            return True
        if not self._outflow.has_room:
            self._outflow.ready.clear()
            return way.send_ping()
        if not way.send(frame.text):
            return False
        self._sent(self._outflow.sent(time.monotonic()))
        return True

    def _write_piece(self, way: Way, piece: bytes) -> bool:
        self._piece = None
        if not way.send(piece):
            return False
        self._piece_written.set()
        return True

    def _sent(self, key: JobKey | None) -> None:
        """A frame of ``key`` is out: its report may follow."""
        if key in self._held and not self._outflow.pending(key):
            self._held.discard(key)
            self._reports.append(key)
