"""Source and dependency archives: fetch, check the digest, extract (agent spec 3.1, A101)."""

import hashlib
import io
import os
from collections.abc import Callable
from typing import Any

import gevent

from kici.agent.native import JobRefused

#: No source archive is this big; an endless answer is.
MAX_BYTES = 2 * 2**30
#: What one may grow to: a source compressed to a tenth is usual, to a thousandth an attack.
MAX_UNPACKED_BYTES = 10 * MAX_BYTES
_BLOCK_BYTES = 256 * 1024
_SOCKET_TIMEOUT_S = 60.0
#: A download looks this often whether its job was ended.
_POLL_S = 0.1
_ENDED = "the job was ended while its archive was fetched"


def fetch_archive(
    url: str, digest: str | None, directory: str, scratch: str, stopped: Callable[[], bool]
) -> None:
    """Extract the tar at ``url`` (http, https, file) into ``directory``.

    ``digest`` is the SHA-256 of its bytes, checked before anything is extracted. ``scratch``
    takes the download. Raises ``JobRefused``, also soon after ``stopped`` says so.
    """
    path = os.path.join(scratch, "archive")
    try:
        found = _download(url, path, stopped)
        if digest is not None and found != digest.lower().removeprefix("sha256:"):
            raise JobRefused("archive does not have the expected SHA-256 digest")
        _extract(path, directory, stopped)
    finally:
        if os.path.exists(path):
            os.unlink(path)


def _download(url: str, path: str, stopped: Callable[[], bool]) -> str:
    """In a greenlet of its own, which can be ended wherever it waits."""
    if not url.startswith(("http://", "https://", "file://")):
        raise JobRefused("archive URL must be http, https or file")
    # Returned, not raised: gevent would print it.
    loading = gevent.spawn(_load, url, path)
    while not loading.ready():
        loading.join(_POLL_S)
        if stopped():
            loading.kill()
            raise JobRefused(_ENDED)
    if isinstance(loading.value, JobRefused):
        raise loading.value
    found: str = loading.get()
    return found


def _load(url: str, path: str) -> str | JobRefused:
    # Imported when needed: most jobs have no archive, and these cost 5 MB.
    import http.client
    import urllib.error
    import urllib.request

    digest, n_bytes = hashlib.sha256(), 0
    try:
        opened = urllib.request.urlopen(url, timeout=_SOCKET_TIMEOUT_S)
        with opened as source, open(path, "xb") as target:
            while block := source.read1(_BLOCK_BYTES):
                n_bytes += len(block)
                if n_bytes > MAX_BYTES:
                    return JobRefused("archive is too big")
                digest.update(block)
                target.write(block)
                # A file, or a server that is faster than we, never makes us wait.
                gevent.sleep(0)
            # What the server promised and did not send; only HTTP knows it.
            if getattr(source, "length", None):
                return JobRefused("archive cannot be fetched: IncompleteRead")
    except urllib.error.HTTPError as error:
        error.close()
        return JobRefused(f"archive cannot be fetched: HTTP {error.code}")
    except (OSError, ValueError, http.client.HTTPException) as error:
        # A presigned URL is a credential: the error must not repeat it.
        return JobRefused(f"archive cannot be fetched: {type(error).__name__}")
    return digest.hexdigest()


class _Source(io.FileIO):
    """An archive's file, whose reading ends with its job."""

    def __init__(self, path: str, stopped: Callable[[], bool]) -> None:
        super().__init__(path)
        self._stopped = stopped

    def read(self, size: int | None = -1) -> Any:
        if self._stopped():
            raise JobRefused(_ENDED)
        return super().read(-1 if size is None else size)


def _extract(path: str, directory: str, stopped: Callable[[], bool]) -> None:
    """In a worker thread: thousands of files would keep the agent from its worker."""
    # tarfile imports these when it needs them, which a thread beside gevent must not do.
    import bz2  # noqa: F401
    import gzip  # noqa: F401
    import lzma  # noqa: F401
    import tarfile  # noqa: F401

    refused = gevent.get_hub().threadpool.apply(_unpack, (path, directory, stopped))
    if refused is not None:
        raise refused


def _unpack(path: str, directory: str, stopped: Callable[[], bool]) -> JobRefused | None:
    """Returns what it refuses: gevent would print what a thread raises."""
    import lzma
    import tarfile
    import zlib

    n_bytes = 0

    def allowed(member: Any, target: str) -> Any:
        nonlocal n_bytes
        n_bytes += member.size
        if n_bytes > MAX_UNPACKED_BYTES:
            raise JobRefused("archive is too big")
        # "data" refuses what leaves the directory: absolute names, "..", links that point
        # outside, devices.
        return tarfile.data_filter(member, target)

    try:
        with _Source(path, stopped) as file, tarfile.open(fileobj=file) as archive:
            archive.extractall(directory, filter=allowed)
    except JobRefused as refused:
        return refused
    except tarfile.FilterError as error:
        return JobRefused(f"archive refused: {type(error).__name__}")
    # What broken data, impossible times and paths of thousands of parts raise through tarfile.
    except (
        *(tarfile.TarError, OSError, EOFError, ValueError, OverflowError, RecursionError),
        *(zlib.error, lzma.LZMAError),
    ) as error:
        return JobRefused(f"archive cannot be extracted: {type(error).__name__}")
    return None
