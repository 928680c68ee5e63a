"""The real peer process; the test plays supervisor, pool and web on its links."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from kici.config.model import Config, ScalerConfig, Secret, Settings
from kici.contracts.link.envelope import pack, unpack
from kici.contracts.link.lifecycle import Hello, Leave
from kici.shell.link import Joiner, cut, socketpair

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 10.0
NEIGHBOURS = ("supervisor", "pool", "web")


class End:
    """The test's end of one link."""

    def __init__(self, name, raw):
        self.name = name
        self.raw = raw
        self.boot_id = f"{name}-1"
        self._joiner = Joiner()
        self._number = 0
        self.seen = []

    def send(self, message, fds=()):
        self._number += 1
        self.raw.settimeout(TIMEOUT_S)  # what is left of the last receive may be nothing
        for index, part in enumerate(cut(self._number, pack(self.name, self.boot_id, message))):
            if fds and not index:
                socket.send_fds(self.raw, [part], list(fds))
            else:
                self.raw.send(part)

    def receive(self, timeout_s=TIMEOUT_S):
        deadline = time.monotonic() + timeout_s
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"peer said nothing to {self.name}")
            self.raw.settimeout(left)
            part = self.raw.recv(2**17)
            if not part:
                raise EOFError(f"peer closed its link to {self.name}")
            whole = self._joiner.feed(part)
            if whole is not None:
                self.seen.append(unpack(whole).body)
                return self.seen[-1]

    def expect(self, kind, timeout_s=TIMEOUT_S, where=lambda message: True):
        """The next message of class ``kind`` for which ``where`` holds; others are skipped."""
        deadline = time.monotonic() + timeout_s
        while True:
            message = self.receive(max(0.001, deadline - time.monotonic()))
            if isinstance(message, kind) and where(message):
                return message


def settings(tmp_path, urls, **changes):
    values = {
        "role": "worker",
        "coordinator_urls": tuple(urls),
        "credential_file": str(tmp_path / "kici" / "peer-credential"),
        "instance_id": "worker-7",
        "data_dir": str(tmp_path / "data"),
        "runtime_dir": str(tmp_path / "run"),
        "max_reconnect_delay_s": 0.2,
    }
    return Settings(**(values | changes))


class PeerChild:
    """Owns: one peer process."""

    def __init__(self, tmp_path, urls, token=None, **changes):
        if token:
            changes["join_token"] = Secret(token)
        self._log_path = tmp_path / "peer.log"
        self.config = Config(settings=settings(tmp_path, urls, **changes), scalers=ScalerConfig())
        self.start()

    def start(self):
        pairs = {name: socketpair() for name in NEIGHBOURS}
        fds = {name: theirs.fileno() for name, (_ours, theirs) in pairs.items()}
        # A process of its own, not a fork: the test's process may hold a gevent hub, and a
        # child must not inherit one (docs/architecture.md).
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.support.peer_process", str(self._log_path)),
                *(f"{name}={fd}" for name, fd in fds.items()),
            ],
            stdin=subprocess.PIPE,
            pass_fds=tuple(fds.values()),
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        self._process.stdin.write(msgspec.json.encode(self.config))
        self._process.stdin.close()
        self.pid = self._process.pid
        self.ends = {}
        for name, (ours, theirs) in pairs.items():
            theirs.close()
            self.ends[name] = End(name, ours)
        self.pool, self.web, self.supervisor = (self.ends[n] for n in ("pool", "web", "supervisor"))
        self.pool.send(Hello(name="pool", pid=os.getpid()))

    @property
    def log(self):
        return self._log_path.read_text() if self._log_path.exists() else ""

    def wait_log(self, text, timeout_s=TIMEOUT_S):
        deadline = time.monotonic() + timeout_s
        while text not in self.log:
            assert time.monotonic() < deadline, f"{text!r} not in:\n{self.log}"
            time.sleep(0.01)

    def leave(self, within_s=15.0):
        """Ask it to leave; its exit code."""
        self.supervisor.send(Leave(within_s=within_s))
        return self.wait_exit()

    def wait_exit(self, timeout_s=TIMEOUT_S):
        return self._process.wait(timeout_s)

    def kill(self):
        """SIGKILL, and its links are closed."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(TIMEOUT_S)
        for end in self.ends.values():
            end.raw.close()

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.kill()
