"""The worker's credential and join token: who we are to the cluster (peer spec 2.5).

Nobody else sees them: never on a link, never in a log.
"""

import contextlib
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from gevent.event import Event

from kici.contracts.wire.join import StoredCredential
from kici.protocol.peer_actions import Authentication
from kici.shell import durable

log = logging.getLogger("kici.peer")

#: How long a connection waits for another one's join (P24). Less than the coordinator's 15 s.
JOIN_WAIT_S = 10.0
#: A credential lives 90 days and is never renewed; the warning comes two weeks before (W63).
LIFETIME_S = 90 * 86400.0
WARN_BEFORE_S = 14 * 86400.0
#: Refusals that mean: this credential will never be accepted again.
_DEAD = frozenset({"Invalid proof", "Unknown credential", "Credential revoked"})


class Credentials:
    """Owns: the credential file, the join token, and the lock that lets one connection join.

    ``wall()`` gives epoch seconds. ``token_file``, where the token came from, is emptied once
    the credential that it bought is on disk.
    """

    def __init__(
        self,
        path: Path,
        instance_id: str,
        token: str | None,
        wall: Callable[[], float],
        token_file: Path | None = None,
    ) -> None:
        self._path = path
        self._instance_id = instance_id
        self._token = token
        self._token_file = token_file
        self._wall = wall
        self._unwritten: StoredCredential | None = None
        self._corrupt: bytes | None = None
        self._joiner: str | None = None
        #: Why the last credential was refused for good; None once there is a new one.
        self.refusal: str | None = None
        self._free = Event()
        self._free.set()

    def choose(self, url: str) -> Authentication | None:
        """How ``url``'s connection shall authenticate; may wait for a sibling's join.

        A token is given to one connection at a time, which must call ``released``.
        """
        for _ in range(3):
            stored = self.current()
            if stored is not None:
                return Authentication(mode="credential", secret=stored.credential)
            if self._token is None or not self._can_keep():
                return None
            if self._joiner in (None, url):
                break
            if not self._free.wait(JOIN_WAIT_S):
                log.warning("In-flight peer token-join timed out; waiter will retry")
                break
        self._joiner = url
        self._free.clear()
        return Authentication(mode="token", secret=self._token)

    def joined(self, url: str, credential: str, role: str | None) -> None:
        """A token join was accepted: keep the credential, wake those who wait."""
        stored = StoredCredential(
            instance_id=self._instance_id,
            credential=credential,
            role=role or "worker",
            issued_at=_iso(self._wall()),
        )
        self._unwritten, self.refusal = stored, None
        self.write_pending()
        self.released(url)

    def released(self, url: str) -> None:
        """The connection of ``url`` is no longer joining."""
        if self._joiner == url:
            self._joiner = None
            self._free.set()

    def refused(self, reason: str, tried: Authentication | None) -> None:
        """The coordinator's refusal; a dead credential is deleted, unless a sibling has
        already replaced it (P25-P27)."""
        if reason not in _DEAD or tried is None or tried.mode != "credential":
            log.info("Coordinator rejection action", extra={"reason": reason, "action": "keep"})
            return
        stored = self.current()
        if stored is not None and stored.credential != tried.secret:
            log.info("Coordinator rejection action", extra={"reason": reason, "action": "retry"})
            return
        log.info("Coordinator rejection action", extra={"reason": reason, "action": "delete"})
        self._unwritten, self.refusal = None, reason
        try:
            durable.remove(self._path)
        except OSError as error:
            log.error("Credential file cannot be deleted", extra={"error": str(error)})
            return
        log.warning("Deleted stale credential file after server rejection")

    def write_pending(self) -> None:
        """Try (again) to put a fresh credential on disk; meanwhile memory holds it (P73)."""
        if self._unwritten is None:
            return
        try:
            durable.make_directory(self._path.parent)
            durable.write_atomic(self._path, encode(self._unwritten))
        except OSError as error:
            log.error(
                "Credential file cannot be written; the credential is kept in memory",
                extra={"file": str(self._path), "error": str(error)},
            )
            return
        self._unwritten = None
        self._wipe_token()

    def current(self) -> StoredCredential | None:
        """The credential in force: of this instance id, readable; else None."""
        if self._unwritten is not None:
            return self._unwritten
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.error("Credential file cannot be read", extra={"error": str(error)})
            return None
        try:
            stored = msgspec.json.decode(data, type=StoredCredential)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._keep_copy(data)
            return None
        return stored if stored.instance_id == self._instance_id else None

    def issued_at(self) -> str | None:
        stored = self.current()
        return stored.issued_at if stored else None

    def warn_of_age(self) -> None:
        """Say when the credential will soon be refused (W63)."""
        stored = self.current()
        if stored is None:
            return
        with contextlib.suppress(ValueError):
            issued = datetime.fromisoformat(stored.issued_at).timestamp()
            left_s = issued + LIFETIME_S - self._wall()
            if left_s < WARN_BEFORE_S:
                log.warning(
                    "Peer credential expires soon; join again with a fresh token",
                    extra={"issuedAt": stored.issued_at, "daysLeft": max(0, int(left_s // 86400))},
                )

    def _can_keep(self) -> bool:
        """Whether the credential of a join could be stored; else the token is not spent (W54)."""
        probe = self._path.with_name(self._path.name + ".probe")
        try:
            durable.make_directory(self._path.parent)
            if self._path.is_dir():
                raise IsADirectoryError(21, "Is a directory", str(self._path))
            durable.write_atomic(probe, b"")
            os.unlink(probe)
        except OSError as error:
            log.error(
                "Credential file cannot be written; the join token is not used",
                extra={"file": str(self._path), "error": str(error)},
            )
            return False
        return True

    def _wipe_token(self) -> None:
        """The token is spent. A file that holds another one by now is the operator's."""
        if self._token_file is None:
            return
        try:
            if self._token_file.read_text(encoding="utf-8").strip() == self._token:
                durable.empty(self._token_file)
                log.info("Join token used and wiped", extra={"file": str(self._token_file)})
        except FileNotFoundError:
            pass
        except (OSError, UnicodeDecodeError) as error:
            log.warning(
                "The used join token cannot be wiped; remove it",
                extra={"file": str(self._token_file), "error": str(error)},
            )

    def _keep_copy(self, data: bytes) -> None:
        if data == self._corrupt:
            return
        self._corrupt = data
        copy = self._path.with_name(self._path.name + ".corrupt")
        log.error("Credential file is corrupt, treated as absent", extra={"copy": str(copy)})
        with contextlib.suppress(OSError):
            durable.write_atomic(copy, data)


def encode(stored: StoredCredential) -> bytes:
    """The file's bytes: JSON with 2 spaces and a final newline."""
    return msgspec.json.format(msgspec.json.encode(stored), indent=2) + b"\n"


def _iso(wall_s: float) -> str:
    moment = datetime.fromtimestamp(wall_s, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
