"""What every gevent child does alike: open its links, greet, answer pings, leave at EOF.

The supervisor forks, closes what is not the child's, calls ``monkey.patch_all()`` and then
the child's ``run(boot)``. The child's own loop reads one ``inbox``.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from typing import NoReturn

import gevent
import msgspec
from gevent.queue import Queue

from kici.config.model import Config
from kici.contracts.link import Message
from kici.contracts.link.lifecycle import ChildFailed, ChildReady, Hello, Ping, Pong
from kici.shell import host
from kici.shell.link import Link, LinkClosed, new_boot_id
from kici.shell.trim import Trimmer

_log = logging.getLogger("kici.shell")

#: Exit code of a child that cannot boot: the supervisor gives up on it at once.
EXIT_CANNOT_BOOT = 3
#: Exit code of a child whose supervisor is gone.
EXIT_ORPHANED = 4
#: Messages read from neighbours and not yet handled; a full inbox stops the readers, and
#: with them the neighbours: that is the back-pressure between our processes.
INBOX_LENGTH = 1000
#: How long a failing child waits for its last words to be written.
_LAST_WORDS_S = 2.0
#: How often the parent is looked for where links give no EOF (macOS).
_PARENT_WATCH_S = 1.0


class ChildBoot(msgspec.Struct, frozen=True, kw_only=True):
    """What a child gets from the fork.

    ``link_fds`` maps each neighbour's name (``supervisor`` always among them) to this
    child's end of that link. ``listen_fd`` is the bound and listening port, web only.
    """

    name: str
    config: Config
    link_fds: Mapping[str, int]
    listen_fd: int | None = None


class Received(msgspec.Struct, frozen=True):
    """One message from a neighbour, with the descriptors that came with it."""

    sender: str
    boot_id: str
    body: Message
    fds: Sequence[int] = ()


class ChildShell:
    """Owns: the links of one child. Told by: its neighbours, through ``inbox``."""

    def __init__(self, boot: ChildBoot) -> None:
        self.name = boot.name
        self.config = boot.config
        self.boot_id = new_boot_id()
        self.inbox: Queue[Received] = Queue(INBOX_LENGTH)
        self._links = {
            neighbour: Link(fd, name=boot.name, neighbour=neighbour, boot_id=self.boot_id)
            for neighbour, fd in boot.link_fds.items()
        }
        trimmer = Trimmer()
        for neighbour, link in self._links.items():
            link.passed = trimmer.passed
            link.send(Hello(name=boot.name, pid=os.getpid()))
            for greenlet in (link.writer, gevent.spawn(self._read, neighbour, link)):
                greenlet.link_exception(_crash)
        if not host.links_report_eof():
            gevent.spawn(self._watch_parent, os.getppid())

    def tell(self, to: str, message: Message, fds: Sequence[int] = ()) -> None:
        """Send ``message``; blocks this greenlet while the neighbour is far behind."""
        self._links[to].send(message, fds)

    def try_tell(self, to: str, message: Message) -> bool:
        """Send a view; False at once while the neighbour is far behind."""
        return self._links[to].try_send(message)

    def ready(self) -> None:
        """Say once that this child serves."""
        self.tell("supervisor", ChildReady(name=self.name))

    def fail(self, reason: str, *, configuration: bool = False) -> NoReturn:
        """Say why this child cannot boot, and exit so that nobody tries again.

        ``configuration``: the operator's input is the cause (the worker then exits 78).
        """
        self.tell(
            "supervisor",
            ChildFailed(name=self.name, reason=reason, configuration=configuration),
        )
        self._links["supervisor"].flush(_LAST_WORDS_S)
        os._exit(EXIT_CANNOT_BOOT)

    def flush(self, timeout_s: float) -> None:
        """Wait until what was told is written (before a deliberate exit)."""
        for link in self._links.values():
            link.flush(timeout_s)

    def _watch_parent(self, parent: int) -> None:
        """Leave when the supervisor is gone, where a datagram link does not say so."""
        while os.getppid() == parent:
            gevent.sleep(_PARENT_WATCH_S)
        os._exit(EXIT_ORPHANED)

    def _read(self, neighbour: str, link: Link) -> None:
        while True:
            try:
                envelope, fds = link.receive()
            except LinkClosed:
                if neighbour == "supervisor":
                    os._exit(EXIT_ORPHANED)
                return
            if isinstance(envelope.body, Ping):
                # Answered here, before the inbox: a pong proves that the loop turns, not
                # that the inbox is empty.
                link.send(Pong(number=envelope.body.number))
                continue
            self.inbox.put(Received(envelope.sender, envelope.boot_id, envelope.body, fds))


def _crash(greenlet: gevent.Greenlet) -> None:
    """A bug of ours: a child that no longer hears or says anything must not live on."""
    _log.critical("Link failed: %r", greenlet.exception)
    os._exit(1)
