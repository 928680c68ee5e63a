"""The URLs that the names of open records mean: a name has room for a hash only."""

import contextlib
from collections.abc import Collection
from pathlib import Path

from kici.peer import outbox_record as records
from kici.shell import durable


class Urls:
    """Owns: ``<hash>.url`` in the outbox, one file for each coordinator URL, written before
    the first name that needs it and kept until no record and no setting does."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        #: Hash -> URL, of those that are on the disk.
        self.by_hash: dict[str, str] = {}

    def load(self) -> None:
        """A file that is damaged is as good as none: it is written again."""
        for path in self._directory.glob("*" + records.URL):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                url = path.read_text()
                if records.owner_hash(url) == path.stem:
                    self.by_hash[path.stem] = url

    def meanings(self, configured: Collection[str]) -> dict[str, str]:
        """Hash -> URL; what is configured needs no file to be understood."""
        return {records.owner_hash(url): url for url in configured} | self.by_hash

    def keep(self, url: str) -> None:
        """Make sure that ``url`` is found again."""
        owner = records.owner_hash(url)
        if owner not in self.by_hash:
            durable.write_atomic(self._directory / (owner + records.URL), url.encode())
            self.by_hash[owner] = url

    def forget_others(self, used: Collection[str]) -> None:
        for owner, url in list(self.by_hash.items()):
            if url not in used:
                durable.discard(self._directory / (owner + records.URL))
                del self.by_hash[owner]
