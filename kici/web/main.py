"""The web child: the port, the pages, and the hand-over of agents' sockets to the pool.

Owns: the listening port's connections, the history. Told by: supervisor, peer and pool.
"""

import os
import time

import gevent
import gevent.socket

from kici.config.model import job_state_dir
from kici.contracts.link.lifecycle import Hello, Leave
from kici.contracts.link.views import JobLogTail, JobView
from kici.shell.child import ChildBoot, ChildShell, Received
from kici.shell.handover import hand_over
from kici.shell.http import BoundedHandler, BoundedServer
from kici.shell.log_pipe import MAX_MESSAGE_BYTES, reader_fd, split
from kici.shell.upgrade import Upgrade, take_socket
from kici.web.desk import Desk
from kici.web.door import Door
from kici.web.history import FILE_NAME, TOGETHER_S, History, entry_of
from kici.web.shipper import Shipper

#: The supervisor imports this module before it forks: the start of the whole worker, which
#: outlives restarts of this child.
STARTED_AT = time.time()
#: Answers under way when the order to leave comes.
STOP_S = 1.0
HANDOVER_STOP_S = 0.2


def run(boot: ChildBoot) -> int:
    """Serve until the supervisor says leave; returns the exit code."""
    if boot.listen_fd is None:
        raise ValueError("web needs a listening descriptor")
    shell = ChildShell(boot)
    path = f"{job_state_dir(boot.config.settings)}/{FILE_NAME}"
    history = History(path, shell.boot_id, TOGETHER_S)
    desk = Desk(boot.config, history, shell.tell, STARTED_AT)
    _ship_logs(desk)
    server = _serve(boot.listen_fd, desk, shell)
    shell.ready()
    while True:
        received = shell.inbox.get()
        if isinstance(received.body, Leave):
            history.flush()
            # At a hand-over the next start needs the port now; pages dial again by themselves.
            server.stop(timeout=HANDOVER_STOP_S if received.body.handover else STOP_S)
            if desk.shipper is not None:
                desk.shipper.finish(STOP_S)
            shell.flush(STOP_S)
            return 0
        take(desk, shell.boot_id, received)


def take(desk: Desk, boot_id: str, received: Received) -> None:
    """One neighbour's message into the projection, the streams and the history."""
    now, body = time.time(), received.body
    desk.events.add(received.sender, body, now)
    if isinstance(body, JobLogTail):
        desk.feed.log(body)
        return
    fresh = desk.projection.apply(received.sender, received.boot_id, body, now)
    if fresh:
        desk.tally.take(body)
    if fresh and isinstance(body, JobView) and body.state == "finished":
        entry = entry_of(body, boot_id, now)
        if desk.history.add(entry):
            desk.tally.ended(entry, started=body.started_at is not None)
        desk.feed.ended(body.key.job_id)
    if isinstance(body, Hello) and received.sender == "pool":
        desk.feed.watch_again()
    desk.feed.changed()


def _ship_logs(desk: Desk) -> None:
    """Start the shipper where a pipe was opened for it (KICI_LOKI_URL)."""
    descriptor = reader_fd()
    if descriptor is None:
        return
    end = gevent.socket.socket(fileno=os.dup(descriptor))
    shipper = desk.shipper = Shipper(desk.settings)

    def read() -> None:
        while message := end.recv(MAX_MESSAGE_BYTES):
            n_dropped, line = split(message)
            shipper.offer(line, n_dropped)

    gevent.spawn(read)
    gevent.spawn(shipper.run)


def _serve(listen_fd: int, desk: Desk, shell: ChildShell) -> BoundedServer:
    listener = gevent.socket.socket(fileno=listen_fd)
    listener.setblocking(False)
    door = Door(desk)

    def upgrade(handler: BoundedHandler) -> bool:
        if not door.is_agent(handler.environ):
            return False
        _hand_over(handler, shell)
        return True

    server = BoundedServer(listener, door, upgrade)
    server.start()
    return server


def _hand_over(handler: BoundedHandler, shell: ChildShell) -> None:
    """An agent's socket, the request's headers and its early bytes, to the pool."""
    environ = handler.environ
    lines = (line.partition(":") for line in handler.headers.headers)
    sock, early = take_socket(handler)
    upgrade = Upgrade(
        path=environ["PATH_INFO"],
        method=environ["REQUEST_METHOD"],
        headers=tuple((name, value.strip()) for name, _, value in lines),
        remote=f"{environ.get('REMOTE_ADDR', '')}:{environ.get('REMOTE_PORT', '')}",
        early=early,
        socket=sock,
    )
    hand_over(upgrade, lambda message, fds: shell.tell("pool", message, fds))
