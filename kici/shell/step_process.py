"""One command with both outputs in pipes, in a session of its own (gevent)."""

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence

import gevent
from gevent import subprocess
from gevent.os import make_nonblocking, nb_read

#: Two pipes' worth; a reader that is behind lets the kernel hold the writer.
_READ_BYTES = 128 * 1024

#: (stream, data); it may block, and then the command does.
OnData = Callable[[str, bytes], None]


class StepProcess:
    """Owns: the direct child and the reading ends of its outputs.

    The pipes may outlive the child, when a background process holds them.
    """

    def __init__(
        self, argv: Sequence[str], *, cwd: str, env: Mapping[str, str], on_data: OnData
    ) -> None:
        """Raises ``OSError`` when the command cannot be started."""
        read_ends, write_ends = _two_pipes()
        try:
            self._popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=write_ends[0],
                stderr=write_ends[1],
                cwd=cwd,
                env=dict(env),
                close_fds=True,
                start_new_session=True,
            )
        except BaseException:
            for fd in read_ends:
                os.close(fd)
            raise
        finally:
            for fd in write_ends:
                os.close(fd)
        self.pid: int = self._popen.pid
        self._readers = [
            gevent.spawn(_read, fd, stream, on_data)
            for fd, stream in zip(read_ends, ("stdout", "stderr"), strict=True)
        ]

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def wait(self, timeout_s: float) -> int | None:
        """The exit code (negative: signal), or None when it still runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._popen.wait(timeout_s)
        return None

    def drained(self, timeout_s: float) -> bool:
        """Wait for the end of both outputs; False when somebody still holds one."""
        gevent.joinall(self._readers, timeout_s)
        return all(reader.dead for reader in self._readers)

    def abandon(self) -> None:
        """Stop reading, whoever still writes."""
        gevent.killall(self._readers, timeout=1.0)


def _two_pipes() -> tuple[tuple[int, int], tuple[int, int]]:
    """Their read ends, their write ends."""
    one = os.pipe()
    try:
        other = os.pipe()
    except OSError:
        for fd in one:
            os.close(fd)
        raise
    return (one[0], other[0]), (one[1], other[1])


def _read(fd: int, stream: str, on_data: OnData) -> None:
    try:
        make_nonblocking(fd)
        while data := nb_read(fd, _READ_BYTES):
            on_data(stream, data)
            # Let the other stream have its turn: order between them is order of arrival.
            gevent.sleep(0)
    finally:
        os.close(fd)
