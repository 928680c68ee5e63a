"""A file name for a secret that never reaches a disk (Linux: anonymous memory)."""

import contextlib
import os
import tempfile

from kici.shell import host


class secret_file:  # noqa: N801 - used like open()
    """``path`` can be opened by our user's processes until ``close``.

    Without memfd (macOS) it is a file of mode 0600 in TMPDIR, removed by ``close``.
    """

    def __init__(self, data: bytes) -> None:
        fd = host.anonymous_file("kici")
        self._remove = fd is None
        if fd is None:
            self._fd, self.path = tempfile.mkstemp(prefix="kici-")
        else:
            self._fd, self.path = fd, f"/proc/{os.getpid()}/fd/{fd}"
        os.write(self._fd, data)

    def close(self) -> None:
        os.close(self._fd)
        if self._remove:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
