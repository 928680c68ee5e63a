"""Seals the payload of jobs that wait or run, so that a restart can offer them again.

AES-256-GCM under a key in a file of its own, mode 0600, beside the database: a copy of the
database alone (a backup, a bug report) reveals nothing. Whoever can read the whole data
directory as its owner can read the key: that is said in ``docs/coordinator.md``.
"""

import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kici.errors import ConfigError, Problem
from kici.shell.durable import write_atomic

FILE_NAME = "payload.key"
_KEY_BYTES = 32
_IV_BYTES = 12


class Vault:
    """Owns: the key of sealed payloads."""

    def __init__(self, data_dir: str | Path) -> None:
        path = Path(data_dir) / FILE_NAME
        try:
            if not path.exists():
                write_atomic(path, os.urandom(_KEY_BYTES))
            key = path.read_bytes()
        except OSError as error:
            raise ConfigError([Problem(str(path), f"cannot be used: {error}")]) from error
        if len(key) != _KEY_BYTES:
            raise ConfigError([Problem(str(path), f"expected {_KEY_BYTES} bytes")])
        self._aes = AESGCM(key)

    def seal(self, job_id: str, payload: bytes) -> bytes:
        """``payload`` bound to its job."""
        iv = os.urandom(_IV_BYTES)
        return iv + self._aes.encrypt(iv, payload, job_id.encode())

    def open(self, job_id: str, sealed: bytes) -> bytes | None:
        """The payload; None when it was sealed with another key or for another job."""
        try:
            return self._aes.decrypt(sealed[:_IV_BYTES], sealed[_IV_BYTES:], job_id.encode())
        except (InvalidTag, ValueError):
            return None
