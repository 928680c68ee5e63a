"""Temporary files without a name: whoever dies, nothing is left behind.

They live on the file system of ``directory`` (the runtime directory: often memory) and go from
process to process as descriptors.
"""

import contextlib
import os
import tempfile
from collections.abc import Callable, Sequence
from typing import BinaryIO, cast


def unnamed_file(directory: str) -> BinaryIO:
    """A new file, readable and writable, mode 0600; its bytes go when it is closed."""
    return cast(BinaryIO, tempfile.TemporaryFile(dir=directory, prefix="kici-"))


def pass_on(file: BinaryIO, give: Callable[[Sequence[int]], None]) -> None:
    """Call ``give`` with a descriptor of ``file``, which it closes; ``file`` may be closed
    afterwards. Whoever gets it reads from the beginning."""
    file.flush()
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    descriptor = os.dup(file.fileno())
    try:
        give([descriptor])
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        raise


def adopt(descriptor: int) -> BinaryIO:
    """The file behind a descriptor that another process passed."""
    return cast(BinaryIO, os.fdopen(descriptor, "rb"))


def drop(descriptors: Sequence[int]) -> None:
    """Close descriptors that nobody waits for."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
