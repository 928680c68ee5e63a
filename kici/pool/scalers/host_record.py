"""What a worker writes down about an agent on this machine, to know it again (scaler spec 4.7).

One directory an agent: ``agent.json`` (mode 0600, no secret), ``output``, ``tmp``.
"""

import contextlib
import os
import re
from collections.abc import Iterator

import msgspec

from kici.shell import processes

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}\Z")
_RECORD = "agent.json"
#: Kept of the output once it exceeds ``MAX_OUTPUT_BYTES``.
_TAIL_BYTES = 64 * 1024
MAX_OUTPUT_BYTES = 1024 * 1024
_TAIL_LINES = 50
#: An agent token has this form wherever it appears (agent spec 1.7).
_TOKEN = re.compile(rb"kat_[0-9a-f]{8,}")


class AgentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``pid`` 0: it was about to be started. ``boot`` names the boot of this machine."""

    agent_id: str
    scaler: str
    owner: str
    labels: tuple[str, ...]
    boot: str
    pid: int = 0
    started: str = ""
    job_id: str | None = None
    run_id: str | None = None
    cgroup: str | None = None


_decoder = msgspec.json.Decoder(AgentRecord)


class AgentDirectory:
    """Owns: one agent's files below ``state_dir``."""

    def __init__(self, state_dir: str, agent_id: str) -> None:
        if not _ID.match(agent_id):
            raise ValueError(f"agent id is no file name: {agent_id!r}")
        self.path = os.path.join(state_dir, agent_id)
        self.scratch = os.path.join(self.path, "tmp")
        self.output = os.path.join(self.path, "output")

    def make(self) -> None:
        os.makedirs(self.scratch, mode=0o700, exist_ok=True)
        os.chmod(self.path, 0o700)

    def write(self, record: AgentRecord) -> None:
        """Not fsynced: after a power cut there is no process to find either."""
        path = os.path.join(self.path, _RECORD)
        fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.encode(record))
        os.replace(path + ".new", path)

    def open_output(self) -> int:
        # Appending: a writer goes on at the end after ``shorten``.
        return os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def shorten(self) -> None:
        """Keep the end of an output that has grown too big. What is written between the
        two calls is lost."""
        try:
            if os.path.getsize(self.output) <= MAX_OUTPUT_BYTES:
                return
            rest = self._end()
            with open(self.output, "r+b") as file:
                file.truncate(0)
            with open(self.output, "ab") as file:
                file.write(rest)
        except OSError:
            return

    def tail(self) -> str:
        """The last lines of the output, without tokens."""
        lines = _TOKEN.sub(b"kat_***", self._end()).decode("utf-8", "replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])

    def _end(self) -> bytes:
        try:
            with open(self.output, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(size - _TAIL_BYTES, 0))
                return file.read(_TAIL_BYTES)
        except OSError:
            return b""


def records(state_dir: str) -> Iterator[AgentRecord]:
    """All readable records; a directory without one is skipped."""
    try:
        names = sorted(os.listdir(state_dir))
    except OSError:
        return
    for name in names:
        try:
            with open(os.path.join(state_dir, name, _RECORD), "rb") as file:
                record = _decoder.decode(file.read())
        except (OSError, msgspec.DecodeError):
            continue
        if record.agent_id == name:
            yield record


def nameless(state_dir: str, before: float) -> list[str]:
    """Directories of agents without a readable record, not touched since ``before`` (wall
    clock): made by a worker that died at that moment, or damaged. Nobody can own them."""
    known = {record.agent_id for record in records(state_dir)}
    found = []
    with contextlib.suppress(OSError), os.scandir(state_dir) as entries:
        for entry in entries:
            if entry.name not in known and entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        found.append(entry.path)
    return sorted(found)


def leader_of(record: AgentRecord) -> processes.Process | None:
    """The agent's process when it is this very one, else None."""
    if record.pid <= 0 or record.boot != processes.boot_id():
        return None
    found = processes.look(record.pid)
    if found is None or found.zombie or found.started != record.started:
        return None
    return found
