"""A file name for a secret that never reaches a disk (Linux: anonymous memory)."""

import contextlib
import os
import tempfile


class secret_file:  # noqa: N801 - used like open()
    """``path`` can be opened by our user's processes until ``close``.

    Without memfd (macOS) it is a file of mode 0600 in TMPDIR, removed by ``close``.
    """

    def __init__(self, data: bytes) -> None:
        if hasattr(os, "memfd_create"):
            self._fd = os.memfd_create("kici", os.MFD_CLOEXEC)
            os.fchmod(self._fd, 0o600)
            self.path = f"/proc/{os.getpid()}/fd/{self._fd}"
            self._remove = False
        else:
            self._fd, self.path = tempfile.mkstemp(prefix="kici-")
            self._remove = True
        os.write(self._fd, data)

    def close(self) -> None:
        os.close(self._fd)
        if self._remove:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
