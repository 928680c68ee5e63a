"""Source and dependency archives: fetch, check the digest, extract (agent spec 3.1, A101)."""

import hashlib
import os
from collections.abc import Callable

from kici.agent.native import JobRefused

#: No source archive is this big; an endless answer is.
MAX_BYTES = 2 * 2**30
_BLOCK_BYTES = 256 * 1024
_SOCKET_TIMEOUT_S = 60.0


def fetch_archive(
    url: str, digest: str | None, directory: str, scratch: str, stopped: Callable[[], bool]
) -> None:
    """Extract the tar at ``url`` (http, https, file) into ``directory``.

    ``digest`` is the SHA-256 of its bytes, checked before anything is extracted. ``scratch``
    takes the download. Raises ``JobRefused``.
    """
    path = os.path.join(scratch, "archive")
    try:
        found = _download(url, path, stopped)
        if digest is not None and found != digest.lower().removeprefix("sha256:"):
            raise JobRefused("archive does not have the expected SHA-256 digest")
        _extract(path, directory)
    finally:
        if os.path.exists(path):
            os.unlink(path)


def _download(url: str, path: str, stopped: Callable[[], bool]) -> str:
    # Imported when needed: most jobs have no archive, and these cost 5 MB.
    import http.client
    import urllib.error
    import urllib.request

    if not url.startswith(("http://", "https://", "file://")):
        raise JobRefused("archive URL must be http, https or file")
    digest, n_bytes = hashlib.sha256(), 0
    try:
        opened = urllib.request.urlopen(url, timeout=_SOCKET_TIMEOUT_S)
        with opened as source, open(path, "xb") as target:
            while block := source.read(_BLOCK_BYTES):
                n_bytes += len(block)
                if n_bytes > MAX_BYTES or stopped():
                    raise JobRefused("archive is too big, or the job was ended")
                digest.update(block)
                target.write(block)
    except urllib.error.HTTPError as error:
        raise JobRefused(f"archive cannot be fetched: HTTP {error.code}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        # A presigned URL is a credential: the error must not repeat it.
        raise JobRefused(f"archive cannot be fetched: {type(error).__name__}") from None
    return digest.hexdigest()


def _extract(path: str, directory: str) -> None:
    import lzma
    import tarfile
    import zlib

    try:
        with tarfile.open(path) as archive:
            # "data" refuses what leaves the directory: absolute names, "..", links that
            # point outside, devices.
            archive.extractall(directory, filter="data")
    except tarfile.FilterError as error:
        raise JobRefused(f"archive refused: {type(error).__name__}") from None
    # What broken data, impossible times and paths of thousands of parts raise through tarfile.
    except (
        *(tarfile.TarError, OSError, EOFError, ValueError, OverflowError, RecursionError),
        *(zlib.error, lzma.LZMAError),
    ) as error:
        raise JobRefused(f"archive cannot be extracted: {type(error).__name__}") from None
