"""``ChildShell`` in a process of its own; the test plays supervisor and neighbour."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kici.contracts.link.envelope import pack, unpack
from kici.contracts.link.lifecycle import ChildFailed, ChildReady, Hello, Leave, Ping, Pong
from kici.errors import LocalError
from kici.shell.child import EXIT_CANNOT_BOOT, EXIT_ORPHANED
from kici.shell.link import MAX_MESSAGE_BYTES, PART_BYTES, Joiner, Link, cut, socketpair

ROOT = Path(__file__).parents[2]
PROGRAM = """
from gevent import monkey
monkey.patch_all()
import sys
from pathlib import Path
from kici.contracts.link.lifecycle import Leave
from kici.shell.child import ChildBoot, ChildShell
from tests.support.fake_children import config
fds = {"supervisor": int(sys.argv[1]), "peer": int(sys.argv[2])}
shell = ChildShell(ChildBoot(name="pool", config=config(Path("/nowhere"), 1), link_fds=fds))
if sys.argv[3] == "fail":
    shell.fail("no engine", configuration=True)
shell.ready()
while True:
    received = shell.inbox.get()
    if isinstance(received.body, Leave):
        break
    shell.tell("peer", received.body)
shell.flush(1)
"""


class Child:
    """Owns: the process, and the test's ends of its two links."""

    def __init__(self, mode: str) -> None:
        (self.supervisor, one), (self.peer, other) = socketpair(), socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(one.fileno()), str(other.fileno()), mode],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            pass_fds=(one.fileno(), other.fileno()),
        )
        one.close()
        other.close()

    def read(self, end: socket.socket):
        end.settimeout(20)
        joiner = Joiner()
        while True:
            part = end.recv(PART_BYTES + 8)
            assert part, "the child closed the link"
            whole = joiner.feed(part)
            if whole is not None:
                return unpack(whole)

    def tell(self, end: socket.socket, message) -> None:
        end.send(cut(1, pack("test", "boot", message))[0])

    def finish(self) -> None:
        for end in (self.supervisor, self.peer):
            end.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def child():
    made = []

    def make(mode: str = "serve") -> Child:
        made.append(Child(mode))
        return made[-1]

    yield make
    for one in made:
        one.finish()


def test_a_child_greets_every_neighbour_then_says_that_it_serves(child):
    pool = child()
    hello = pool.read(pool.supervisor)
    assert hello.body == Hello(name="pool", pid=pool.process.pid)
    assert pool.read(pool.peer).boot_id == hello.boot_id
    assert pool.read(pool.supervisor).body == ChildReady(name="pool")


def test_a_ping_is_answered_with_its_number_even_if_nobody_reads_the_inbox(child):
    pool = child()
    pool.read(pool.supervisor)
    pool.read(pool.supervisor)
    pool.tell(pool.supervisor, Ping(number=41))
    assert pool.read(pool.supervisor).body == Pong(number=41)


def test_messages_of_neighbours_reach_the_inbox(child):
    pool = child()
    pool.read(pool.peer)
    pool.tell(pool.peer, Hello(name="peer", pid=1))
    assert pool.read(pool.peer).body == Hello(name="peer", pid=1)
    pool.tell(pool.supervisor, Leave(within_s=1))
    assert pool.process.wait(20) == 0


def test_a_child_that_cannot_boot_says_why_before_it_exits(child):
    pool = child("fail")
    pool.read(pool.supervisor)
    failed = pool.read(pool.supervisor).body
    assert failed == ChildFailed(name="pool", reason="no engine", configuration=True)
    assert pool.process.wait(20) == EXIT_CANNOT_BOOT


def test_a_child_leaves_when_the_supervisor_is_gone(child):
    pool = child()
    pool.read(pool.supervisor)
    pool.supervisor.close()
    assert pool.process.wait(20) == EXIT_ORPHANED


def test_a_neighbour_that_is_gone_ends_nothing(child):
    pool = child()
    pool.read(pool.peer)
    pool.read(pool.supervisor)
    pool.read(pool.supervisor)
    pool.peer.close()
    pool.tell(pool.supervisor, Ping(number=1))
    assert pool.read(pool.supervisor).body == Pong(number=1)


def test_a_child_that_cannot_read_its_neighbour_ends_loudly(child):
    """Deaf to one neighbour it would still answer the supervisor's pings, for ever."""
    running = child()
    running.peer.send(cut(1, b"no envelope")[0])
    assert running.process.wait(20) == 1


def test_a_message_that_is_too_large_is_the_sender_s_error_and_blocks_nobody():
    ours, theirs = socketpair()
    link = Link(ours.detach(), name="pool", neighbour="peer", boot_id="b")
    try:
        with pytest.raises(LocalError):
            link.send(ChildFailed(name="pool", reason="x" * (MAX_MESSAGE_BYTES + 1)))
        link.send(ChildReady(name="pool"))
        assert link.flush(5)
        whole = Joiner().feed(theirs.recv(PART_BYTES + 8))
        assert whole is not None
        assert unpack(whole).body == ChildReady(name="pool")
    finally:
        link.close()
        theirs.close()
