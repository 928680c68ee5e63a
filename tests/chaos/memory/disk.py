"""The disk of a simulated machine: real files on tmpfs, failing when told to."""

import errno
import random
from collections.abc import Callable
from typing import Any

import gevent

from kici.coordinator.store import Store, StoreError
from kici.peer.disk import Disk
from kici.shell import durable
from kici.shell.segments import Segments


class Trouble:
    """Owns: which writes fail now. ``outbox``, ``spool`` and ``database`` are probabilities."""

    def __init__(self, rng: random.Random, loop: Any) -> None:
        self.rng, self.loop = rng, loop
        self.rates = {"outbox": 0.0, "spool": 0.0, "database": 0.0}
        self.latency_s = 0.0005

    def strikes(self, place: str) -> bool:
        rate = self.rates[place]
        return bool(rate) and self.rng.random() < rate

    def error(self) -> OSError:
        number = self.rng.choice((errno.ENOSPC, errno.EIO))
        return OSError(number, "simulated")


def install(trouble: Callable[[], Trouble]) -> None:
    """Put the trouble of the present world between the product and the files."""
    append, commit = Segments.append, Store.commit

    def failing(real: Callable[..., None]) -> Callable[..., None]:
        def write(path: Any, *args: Any) -> None:
            now = trouble()
            in_peer = now.loop.current is not None and now.loop.current.name == "peer"
            if in_peer and "worker-outbox" in str(path) and now.strikes("outbox"):
                raise now.error()
            real(path, *args)

        return write

    def _append(self: Segments, record: bytes) -> None:
        if trouble().strikes("spool"):
            raise trouble().error()
        append(self, record)

    def _commit(self: Store) -> None:
        if self.dirty and "shared" not in str(self.path) and trouble().strikes("database"):
            self.rollback()
            raise StoreError("disk full (simulated)")
        commit(self)

    def in_thread(self: Disk, call: Any, *args: object) -> Any:
        gevent.sleep(trouble().latency_s)
        result = call(*args)
        gevent.sleep(0)
        return result

    for name in ("write_new", "write_atomic", "create_empty"):
        setattr(durable, name, failing(getattr(durable, name)))
    Segments.append = _append
    Store.commit = _commit
    Disk.in_thread = in_thread
