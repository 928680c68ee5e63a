"""A real pool process with the test at the other end of its three links."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading

import msgspec
from websockets.sync.client import connect

from kici.config.model import Config, ScalerConfig
from kici.contracts.link.envelope import pack
from kici.contracts.link.jobs import LogCredit, OutboxState
from kici.contracts.link.lifecycle import ChildReady, DrainState, Leave
from kici.contracts.link.views import SocketPassed
from kici.shell.link import cut, socketpair
from tests.support.web_child import DEADLINE_S, ROOT, Neighbour, settings

_CHILD = """
import gevent.monkey
gevent.monkey.patch_all()
import sys
from kici.shell.child import ChildBoot
from kici.pool.main import run
from tests.support.web_child import read_config
{prelude}
links = dict(item.split("=") for item in sys.argv[2:])
boot = ChildBoot(
    name="pool", config=read_config(sys.argv[1]),
    link_fds={name: int(fd) for name, fd in links.items()},
)
sys.exit(run(boot))
"""
#: A bug of ours in the core, as soon as an agent registers.
TORN_CORE = """
from kici.errors import LocalError
from kici.pool import arrival
def registered(*_args):
    raise LocalError("torn")
arrival.registered = registered
"""


class Web(Neighbour):
    """The test as web, which can pass a descriptor."""

    def pass_socket(self, message, sock):
        self._number += 1
        parts = cut(self._number, pack(self.name, self.boot_id, message))
        socket.send_fds(self._end, [parts[0]], [sock.fileno()])
        for part in parts[1:]:
            self._end.send(part)
        sock.close()


class PoolChild:
    """One pool process; the test plays supervisor, peer and web."""

    def __init__(
        self, tmp_path, scalers=(), credit=2**30, fails=False, data_dir=None, prelude="", **changes
    ):
        self.credit = credit
        self.prelude = prelude
        self.config = Config(
            settings=settings(str(data_dir or tmp_path), **{"agent_auth": "none", **changes}),
            scalers=ScalerConfig(scalers=tuple(scalers)),
        )
        ends = {name: socketpair() for name in ("supervisor", "peer", "web")}
        self._kept = {name: theirs for name, (_ours, theirs) in ends.items()}
        self.supervisor = Neighbour("supervisor", ends["supervisor"][0])
        self.peer = Neighbour("peer", ends["peer"][0])
        self.web = Web("web", ends["web"][0])
        self.process = self._start()
        if not fails:
            self.greet()

    def _start(self):
        fds = {name: end.fileno() for name, end in self._kept.items()}
        return subprocess.Popen(
            [
                sys.executable,
                "-c",
                _CHILD.replace("{prelude}", self.prelude),
                msgspec.json.encode(self.config).decode(),
                *(f"{name}={fd}" for name, fd in fds.items()),
            ],
            pass_fds=tuple(fds.values()),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def greet(self, *open_jobs):
        """What its neighbours say first."""
        self.supervisor.hear(ChildReady)
        self.supervisor.tell(DrainState(rev=1, draining=False, stopping=False, reason=""))
        self.peer.hello()
        self.peer.tell(OutboxState(rev=1, open=open_jobs, n_concluded=0, n_bytes=0, oldest_at=None))
        if self.credit:
            self.peer.tell(LogCredit(n_bytes=self.credit))

    def kill(self):
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def restart(self, *open_jobs):
        self.process = self._start()
        self.greet(*open_jobs)

    def leave(self):
        self.supervisor.tell(Leave(within_s=5.0))
        return self.process.wait(DEADLINE_S)

    def agent(self, name="a1", labels=("linux",), **more):
        """A registered agent."""
        return Agent(self, name, labels, more)

    def close(self):
        for neighbour in (self.supervisor, self.peer, self.web):
            neighbour.close()
        for end in self._kept.values():
            end.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_S)


class Agent:
    """Speaks the agent protocol over a real WebSocket that the test hands over as web does."""

    def __init__(self, pool, name, labels, more):
        self.name = name
        with socket.create_server(("127.0.0.1", 0)) as listener:
            mine = socket.create_connection(listener.getsockname(), timeout=DEADLINE_S)
            theirs, _ = listener.accept()
        self._pass_on(pool, theirs, mine)
        self.say("agent.register", messageId="m", agentId=name, labels=list(labels), **more)
        self.ack = self.hear("register.ack")

    def _pass_on(self, pool, theirs, mine):
        def accept():
            head = b""
            while b"\r\n\r\n" not in head:
                head += theirs.recv(65536)
            lines = head.split(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
            headers = tuple(tuple(line.split(": ", 1)) for line in lines)
            passed = SocketPassed(path="/ws", headers=headers, remote="127.0.0.1", early=b"")
            pool.web.pass_socket(passed, theirs)

        thread = threading.Thread(target=accept)
        thread.start()
        # As a context manager: what connect() returns differs between versions 15 and 17.
        connecting = connect("ws://127.0.0.1/ws", sock=mine, compression=None, max_size=None)
        self._socket = connecting.__enter__()
        thread.join(DEADLINE_S)

    def say(self, kind, **fields):
        self._socket.send(json.dumps({"type": kind, **fields}))

    def hear(self, kind):
        while True:
            message = json.loads(self._socket.recv(timeout=DEADLINE_S))
            if message["type"] == kind:
                return message

    def job(self, kind, **fields):
        """A message about the job r1/j1."""
        self.say(kind, **{"messageId": "m", "runId": "r1", "jobId": "j1", "timestamp": 5} | fields)

    def ping(self):
        """An event that is set when the pong has come."""
        return self._socket.ping()

    def close(self):
        with contextlib.suppress(OSError):
            self._socket.close()
