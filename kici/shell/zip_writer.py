"""Writes a ZIP block by block, so that its size is no matter of memory.

For threads: no gevent, nothing shared; imported late, by a greenlet, because zipfile with its
compressors is 1 MB that is rarely wanted. ``stopped()`` is asked before each block, so that
nobody waits for a bundle that is not wanted any more.
"""

import json
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipInfo

from kici.protocol.bundle_pieces import BundleFailed
from kici.redaction import redact

#: Read and compressed at a time; other threads run in between.
BLOCK_BYTES = 64 * 1024
#: Fast: logs shrink to a tenth even so.
_LEVEL = 3


class ZipWriter:
    """Owns: a ZIP in ``file``, which stays open. Complete once ``close`` was called."""

    def __init__(self, file: BinaryIO, stopped: Callable[[], bool] = lambda: False) -> None:
        self._stopped = stopped
        self._archive = zipfile.ZipFile(file, "w", ZIP_DEFLATED, compresslevel=_LEVEL)

    def add(self, name: str, blocks: Iterable[bytes], *, packed: bool = False) -> int:
        """One entry; its size in bytes. ``packed``: it is a ZIP itself, keep it as it is."""
        info = ZipInfo(name, _now())
        info.external_attr = 0o600 << 16
        info.compress_type = ZIP_STORED if packed else ZIP_DEFLATED
        n_bytes = 0
        with self._archive.open(info, "w") as entry:
            for block in blocks:
                if self._stopped():
                    raise BundleFailed("stopped")
                n_bytes += len(block)
                entry.write(block)
        return n_bytes

    def add_json(self, name: str, value: Any) -> int:
        """``value`` as indented JSON, secrets of known forms masked."""
        text = redact(json.dumps(value, indent=1, default=str))
        return self.add(name, [text.encode("utf-8", "replace")])

    def close(self) -> None:
        self._archive.close()


def blocks_of(file: BinaryIO) -> Iterator[bytes]:
    """The rest of ``file``."""
    return iter(lambda: file.read(BLOCK_BYTES), b"")


def safe_name(text: str, taken: set[str]) -> str:
    """``text`` as a file name that no unpacker misunderstands, different from all ``taken``."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in text)
    name = stem = kept.strip(".")[:100] or "_"
    number = 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name)
    return name


def _now() -> tuple[int, int, int, int, int, int]:
    now = time.gmtime()
    return (now.tm_year, now.tm_mon, now.tm_mday, now.tm_hour, now.tm_min, now.tm_sec)
