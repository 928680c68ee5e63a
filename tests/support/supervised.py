"""A real supervisor with fake children in processes of their own, for process tests."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.support.house import alive
from tests.support.ports import free_port
from tests.support.waiting import WAIT_S, wait_for

PROGRAM = Path(__file__).with_name("fake_children.py")
ROOT = PROGRAM.parents[2]
CHILDREN = ("peer", "pool", "web")


class Supervised:
    """Owns: one supervisor process. ``directory`` steers its children (fake_children.py)."""

    def __init__(self, directory: Path, *, environ: dict[str, str] | None = None, **settings):
        self.directory = directory
        self.port = free_port()
        self._settings = settings
        self._environ = {**os.environ, "PYTHONPATH": str(ROOT), **(environ or {})}
        self.pids_seen: set[int] = set()
        self.process: subprocess.Popen

    def start(self, stdout=None) -> "Supervised":
        arguments = [str(self.directory), str(self.port), json.dumps(self._settings)]
        with (
            (self.directory / "log").open("ab") as out,
            (self.directory / "stderr").open("ab") as err,
        ):
            self.process = subprocess.Popen(
                [sys.executable, str(PROGRAM), *arguments],
                stdout=stdout or out,
                stderr=err,
                env=self._environ,
            )
        return self

    def start_ready(self) -> "Supervised":
        self.start()
        wait_for(lambda: all(self.n_ready(name) for name in CHILDREN), "three ready children")
        return self

    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self._whole_lines("log")]

    def messages(self) -> list[str]:
        return [line["message"] for line in self.lines()]

    def heard(self, child: str, kind: str | None = None) -> list[dict]:
        lines = [json.loads(line) for line in self._whole_lines(f"{child}.heard")]
        return lines if kind is None else [line for line in lines if line.get("type") == kind]

    def drain_of(self, child: str) -> dict:
        """The drain state that ``child`` heard last."""
        return [{"draining": None, "stopping": None}, *self.heard(child, "drain.state")][-1]

    def pid_of(self, child: str) -> int:
        started = [line["childPid"] for line in self.lines() if line.get("child") == child
                   and line["message"] == "Child started"]  # fmt: skip
        self.pids_seen.update(started)
        return started[-1]

    def pids(self) -> dict[str, int]:
        return {child: self.pid_of(child) for child in CHILDREN}

    def n_ready(self, child: str) -> int:
        """How many starts of ``child`` web heard to run."""
        states = self.heard("web", "child.state") if (self.directory / "web.heard").exists() else []
        return len({s["pid"] for s in states if s["name"] == child and s["state"] == "running"})

    def ask(self, wish: str) -> None:
        """Let the web child send a wish (drain, undrain, reload)."""
        (self.directory / "web.ask.new").write_text(wish)
        (self.directory / "web.ask.new").rename(self.directory / "web.ask")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, within_s: float = WAIT_S) -> int:
        return self.process.wait(within_s)

    def answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), WAIT_S) as connection:
            connection.settimeout(WAIT_S)
            return connection.recv(100).startswith(b"HTTP/1.0 200")

    def finish(self) -> None:
        """End what is left, by pid."""
        if (self.directory / "log").exists():
            for child in CHILDREN:
                if any(line.get("child") == child for line in self.lines()):
                    self.pid_of(child)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in self.pids_seen:
            wait_for(lambda pid=pid: not alive(pid), f"the end of child {pid}")
        stderr = (self.directory / "stderr").read_text()
        assert "Traceback" not in stderr, stderr

    def _whole_lines(self, name: str) -> list[str]:
        path = self.directory / name
        text = path.read_text() if path.exists() else ""
        return text[: text.rfind("\n") + 1].splitlines()


def sigterm_and_wait(supervised: Supervised) -> tuple[int, float]:
    """Exit code and seconds."""
    began = time.monotonic()
    supervised.signal(signal.SIGTERM)
    return supervised.wait(), time.monotonic() - began
