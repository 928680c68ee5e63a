"""A scripted worker and real ``kici-agent`` processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.scripted_worker import ScriptedWorker

ROOT = Path(__file__).parents[2]


class AgentProcess:
    def __init__(self, url: str, tmp: Path, **env: str) -> None:
        self.tmp = tmp
        tmp.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kici.cli.agent"],
            cwd=tmp,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp),
                "TMPDIR": str(tmp),
                "PYTHONPATH": str(ROOT),
                # Since 3.12 Python warns of a fork beside gevent's resolver threads; they
                # are idle, and gevent's child only prepares its exec.
                "PYTHONWARNINGS": "default,ignore:This process",
                "KICI_ORCHESTRATOR_URL": url,
                "KICI_AGENT_ID": "agent-1",
                "KICI_DEV": "true",
                **env,
            },
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 15.0) -> int:
        return self.process.wait(timeout_s)

    def errors(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(5)
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture
def worker():
    server = ScriptedWorker()
    yield server
    server.close()


@pytest.fixture
def start_agent(worker, tmp_path):
    started: list[AgentProcess] = []

    def start(**env: str) -> AgentProcess:
        agent = AgentProcess(worker.url, tmp_path / "agent", **env)
        started.append(agent)
        return agent

    yield start
    for agent in started:
        agent.close()


@pytest.fixture
def repository(tmp_path):
    """A real git repository with two commits: (url, first sha, second sha)."""
    path = tmp_path / "repo"
    path.mkdir()

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(path), *arguments],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    git("init", "-q", "-b", "main")
    shas = []
    for number in ("one", "two"):
        (path / "file.txt").write_text(number + "\n")
        git("add", ".")
        git("commit", "-q", "-m", number)
        shas.append(git("rev-parse", "HEAD"))
    return f"file://{path}", *shas
