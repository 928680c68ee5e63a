"""Join tokens and credentials (peer spec 2.1-2.4): the ``Door`` of the coordinator.

Only hashes are stored. Role, organization and routing key come from the row, never from the
text that a peer presents (C9).
"""

import secrets
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec

from kici.coordinator.store import Store, StoreError
from kici.coordinator.times import iso
from kici.coordinator.token_text import token_text, triple
from kici.protocol.coordinator_auth import Credential, DoorError, Joined, token_hash
from kici.protocol.handshake import credential_hash

DAY_MS = 86_400_000
CREDENTIAL_LIFE_MS = 90 * DAY_MS
DEFAULT_TOKEN_LIFE_MS = 3_600_000
#: From here on each login warns (C21): the link has no renewal.
WARN_BEFORE_EXPIRY_MS = 14 * DAY_MS
#: Tokens and credentials that are over are kept for those who ask what happened: this long, and
#: this many of each. A worker that loses its credential joins anew at each start.
KEEP_ENDED_MS = 30 * DAY_MS
KEEP_ENDED = 10_000
#: An open link may outlive its credential, whose row must not vanish meanwhile (C19).
KEEP_EXPIRED_MS = 365 * DAY_MS
#: Rows of one routing triple that are looked at (appendix D, 6).
MAX_TRIPLE_ROWS = 16
ROLES = ("worker", "coordinator")
#: What may join: this coordinator has no mesh.
ACCEPTED_ROLES = ("worker",)

_ACTIVE = "instance_id = ? AND revoked_at IS NULL AND expires_at > ?"


class MintedToken(msgspec.Struct, frozen=True):
    """A new token, shown once. ``token`` is SECRET; ``expires_at`` epoch milliseconds."""

    token: str
    role: str
    org_id: str
    routing_key: str
    expires_at: int


class PeerRow(msgspec.Struct, frozen=True):
    """One credential in force; moments are epoch milliseconds."""

    instance_id: str
    role: str
    created_at: int
    last_seen_at: int | None
    expires_at: int

    def shown(self) -> dict[str, Any]:
        """As the API and ``kici-admin peer list`` show it."""
        return {
            "instanceId": self.instance_id,
            "role": self.role,
            "createdAt": iso(self.created_at),
            "lastSeenAt": iso(self.last_seen_at) if self.last_seen_at else None,
            "expiresAt": iso(self.expires_at),
        }


class Tokens:
    """Owns: the tables ``join_tokens`` and ``peer_credentials``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # --- operator --------------------------------------------------------------------

    def mint(
        self,
        role: str,
        life_ms: int = DEFAULT_TOKEN_LIFE_MS,
        org_id: str = "default",
        routing_key: str = "default",
        created_by: str = "cli",
    ) -> MintedToken:
        """A new one-time token; its text is not stored."""
        secret = secrets.token_bytes(32)
        now = self._store.wall()
        expiry = now + life_ms
        token = token_text(org_id, routing_key, expiry, role, secret)
        self._store.write(
            "INSERT INTO join_tokens (id, token_hash, org_id, routing_key, role, created_by,"
            " created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            str(uuid.uuid4()), token_hash(token), org_id, routing_key, role, created_by, now,
            expiry,
        )  # fmt: skip
        self._store.commit()
        return MintedToken(token, role, org_id, routing_key, expiry)

    def peers(self) -> list[PeerRow]:
        """Every credential in force, oldest first."""
        rows = self._store.read(
            "SELECT instance_id, role, created_at, last_seen_at, expires_at FROM peer_credentials"
            " WHERE revoked_at IS NULL AND expires_at > ? ORDER BY created_at, instance_id",
            self._store.wall(),
        )
        return [PeerRow(*row) for row in rows]

    def revoke(self, instance_id: str | None) -> int:
        """Revoke one instance's credential, or all with None; how many there were."""
        where = "revoked_at IS NULL" + ("" if instance_id is None else " AND instance_id = ?")
        values = () if instance_id is None else (instance_id,)
        now = self._store.wall()
        n = self._store.write(
            f"UPDATE peer_credentials SET revoked_at = ? WHERE {where}", now, *values
        )
        self._store.commit()
        return n

    def admitted(self, instance_ids: Sequence[str]) -> set[str]:
        """Those of ``instance_ids`` that still hold a credential that is not revoked."""
        rows = self._store.read("SELECT instance_id FROM peer_credentials WHERE revoked_at IS NULL")
        return {row[0] for row in rows}.intersection(instance_ids)

    def prune(self) -> None:
        """Drop what has been over for long; the caller commits."""
        now = self._store.wall()
        for table, over in (("join_tokens", "expires_at"), ("peer_credentials", "revoked_at")):
            self._store.write(
                f"DELETE FROM {table} WHERE {over} <= ? OR rowid IN (SELECT rowid FROM {table}"
                f" WHERE {over} <= ? ORDER BY {over} DESC LIMIT -1 OFFSET ?)",
                now - KEEP_ENDED_MS, now, KEEP_ENDED,
            )  # fmt: skip
        self._store.write(
            "DELETE FROM peer_credentials WHERE expires_at <= ?", now - KEEP_EXPIRED_MS
        )

    def expires_at(self, instance_id: str) -> int | None:
        """When the instance's credential ends."""
        row = self._store.one(
            f"SELECT expires_at FROM peer_credentials WHERE {_ACTIVE}",
            instance_id, self._store.wall(),
        )  # fmt: skip
        return None if row is None else int(row[0])

    def days_left(self, instance_id: str) -> int | None:
        """Whole days until the instance's credential ends, when they are few."""
        try:
            expires_at = self.expires_at(instance_id)
        except StoreError:
            return None
        if expires_at is None or (left := expires_at - self._store.wall()) >= WARN_BEFORE_EXPIRY_MS:
            return None
        return left // DAY_MS

    # --- the door --------------------------------------------------------------------

    def credential(self, instance_id: str) -> Credential | None:
        try:
            row = self._store.one(
                f"SELECT credential_hash, role FROM peer_credentials WHERE {_ACTIVE}",
                instance_id, self._store.wall(),
            )  # fmt: skip
        except StoreError as error:
            raise DoorError(str(error)) from error
        return None if row is None else Credential(row["credential_hash"], row["role"])

    def token_hashes(self, routing: str) -> Sequence[bytes]:
        named = triple(routing)
        if named is None:
            return ()
        try:
            rows = self._store.read(
                "SELECT token_hash FROM join_tokens WHERE org_id = ? AND routing_key = ?"
                " AND expires_at = ? AND expires_at > ? LIMIT ?",
                *named, self._store.wall(), MAX_TRIPLE_ROWS,
            )  # fmt: skip
        except StoreError as error:
            raise DoorError(str(error)) from error
        return [row[0] for row in rows]

    def join(self, token_hash: bytes, instance_id: str, claimed_role: str | None) -> Joined | str:
        try:
            # The lock first: two connections with one token are decided one after the other.
            self._store.begin()
            outcome = self._consume(token_hash, instance_id, claimed_role)
            self._store.commit()
        except StoreError as error:
            raise DoorError(str(error)) from error
        return outcome

    def welcomed(self, instance_id: str) -> None:
        try:
            self._store.write(
                "UPDATE peer_credentials SET last_seen_at = ? WHERE instance_id = ?"
                " AND revoked_at IS NULL",
                self._store.wall(), instance_id,
            )  # fmt: skip
        except StoreError as error:
            raise DoorError(str(error)) from error

    def _consume(self, hashed: bytes, instance_id: str, claimed: str | None) -> Joined | str:
        now = self._store.wall()
        row = self._store.one("SELECT * FROM join_tokens WHERE token_hash = ?", hashed)
        if row is None or row["expires_at"] <= now:
            return "Invalid token"
        used_by = row["consumed_by_instance"]
        if (
            used_by is not None
            and used_by != instance_id
            and not self._recovers(hashed, instance_id)
        ):
            return "Invalid token"
        if row["role"] not in ACCEPTED_ROLES or claimed not in (None, row["role"]):
            return "Role mismatch"
        if used_by is None:
            self._store.write(
                "UPDATE join_tokens SET consumed_at = ?, consumed_by_instance = ?"
                " WHERE token_hash = ?", now, instance_id, hashed,
            )  # fmt: skip
        return Joined(
            row["role"], self._issue(instance_id, row["role"], row["routing_key"], hashed)
        )

    def _recovers(self, hashed: bytes, instance_id: str) -> bool:
        """2.3 step 5: the instance's credential already came from this very token."""
        found = self._store.one(
            f"SELECT 1 FROM peer_credentials WHERE source_token_hash = ? AND {_ACTIVE}",
            hashed, instance_id, self._store.wall(),
        )  # fmt: skip
        return found is not None

    def _issue(self, instance_id: str, role: str, routing_key: str, source: bytes) -> str:
        """A new credential's text; the previous one ends in the same transaction."""
        now = self._store.wall()
        text = secrets.token_hex(32)
        self._store.write(
            "UPDATE peer_credentials SET revoked_at = ? WHERE instance_id = ?"
            " AND revoked_at IS NULL", now, instance_id,
        )  # fmt: skip
        self._store.write(
            "INSERT INTO peer_credentials (id, instance_id, credential_hash, role, routing_key,"
            " source_token_hash, created_at, last_seen_at, expires_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            str(uuid.uuid4()), instance_id, credential_hash(text), role, routing_key, source,
            now, now, now + CREDENTIAL_LIFE_MS,
        )  # fmt: skip
        return text
