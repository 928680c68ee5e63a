"""Agent tokens that need no store: derived from a key file (agent spec 1.7, A27).

``kat_`` and 64 hex characters are 32 bytes: a 16-byte tag and a 16-byte claim, sealed with
two keys that come from ``<data_dir>/agent-token-key`` (0600, made once):

    claim = version 1 | expiry, 4 bytes, seconds, 0 for none | agent, 6 | labels, 5
    tag   = HMAC(k1, claim)[:16]        token = tag | claim XOR HMAC(k2, tag)[:16]

``agent`` and ``labels`` are keyed hashes of the agent id and of the label scope, so neither
can be searched for offline. ``auth.request`` is checked with the token alone; ``bind``
compares id and labels when they are known, at ``agent.register``. A restarted pool knows the
label scopes from its configuration (``know``); of one that is gone from there it knows the
hash, and demands exactly those labels. A token of another worker has another key.

Expiry is checked at authentication only, and not at all for an agent that once registered
and is not gone (``hold`` .. ``release``): a job may run longer than the token lives and its
agent must be able to reconnect (scaler spec 2.9).
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from kici.errors import ConfigError, Problem
from kici.pool.seam import TokenGrant
from kici.pool.static_tokens import StaticTokens, create_static, list_static, revoke_static
from kici.protocol.agent_gates import token_bound
from kici.shell.durable import make_directory, write_atomic

__all__ = ["TokenIssuer", "create_static", "list_static", "revoke_static"]

KEY_FILE = "agent-token-key"
REVOKED_FILE = "agent-tokens-revoked.json"
_KEY_BYTES = 32
_TAG_BYTES = 16
_VERSION = 1
_AGENT_BYTES = 6
_LABELS_BYTES = 5
_TOKEN = re.compile(r"kat_([0-9a-f]{64})")
#: Scopes, ended agents and revoked ids kept; far more than one worker makes in a day.
_MAX_REMEMBERED = 10_000
#: Revocations are kept on disk as long as any token can live.
_REVOKED_S = 30 * 86400.0


class DerivedGrant(TokenGrant, frozen=True, kw_only=True):
    """A grant whose agent id and labels may be known by their hashes only."""

    agent_ref: bytes
    labels_ref: bytes


class TokenIssuer:
    """Owns: the key and what was revoked. Told by: the pool's core and the agent server."""

    def __init__(
        self,
        data_dir: str,
        *,
        static_file: str | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._wall = wall
        key = _load_key(Path(data_dir) / KEY_FILE)
        self._mac_key, self._cipher_key, self._ref_key = (
            hmac.new(key, purpose, hashlib.sha256).digest()
            for purpose in (b"kici-agent-token/tag", b"kici-agent-token/claim", b"kici-ref")
        )
        self._scopes: dict[bytes, tuple[str, ...]] = {}
        self._held: set[bytes] = set()
        self._ended: dict[bytes, None] = {}
        self._revoked_path = Path(data_dir) / REVOKED_FILE
        self._revoked = _load_revoked(self._revoked_path, wall())
        self._static = StaticTokens(static_file)

    # --- for the core ----------------------------------------------------------------

    def issue(self, agent_id: str, labels: Sequence[str], ttl_s: float | None) -> str:
        """The token of one agent, for its environment only: SECRET.

        ``labels`` is the full list that the agent gets; those that every agent may report
        itself need not be in it. ``ttl_s`` None: without end.
        """
        self.know(labels)
        expiry = 0 if ttl_s is None else min(int(self._wall() + ttl_s) + 1, 2**32 - 1)
        claim = b"".join(
            (
                bytes([_VERSION]),
                expiry.to_bytes(4, "big"),
                self._agent_ref(agent_id),
                self._labels_ref(labels),
            )
        )
        self._ended.pop(self._agent_ref(agent_id), None)
        tag = hmac.new(self._mac_key, claim, hashlib.sha256).digest()[:_TAG_BYTES]
        return "kat_" + (tag + self._crypt(claim, tag)).hex()

    def know(self, labels: Sequence[str]) -> None:
        """A label scope that tokens may have been issued for, by an earlier pool too."""
        _remember(self._scopes, self._labels_ref(labels), token_bound(labels))

    def hold(self, agent_id: str) -> None:
        """The agent registered, or was found alive: its token no longer expires."""
        self._held.add(self._agent_ref(agent_id))

    def release(self, agent_id: str) -> None:
        """The agent is gone for good: its token is worth nothing from now on."""
        ref = self._agent_ref(agent_id)
        self._held.discard(ref)
        _remember(self._ended, ref, None)

    def revoke(self, token_id: str) -> None:
        """Refuse a token; ``persist`` makes it hold after a restart, and live connections are
        the server's affair."""
        now = self._wall()
        self._revoked = {k: at for k, at in self._revoked.items() if now - at < _REVOKED_S}
        _remember(self._revoked, token_id, now)

    def persist(self) -> None:
        """What was revoked, on disk. ``OSError``."""
        write_atomic(self._revoked_path, msgspec.json.encode(self._revoked))

    @property
    def has_static(self) -> bool:
        """Whether agents may come that no backend knows of."""
        return self._static.exist()

    # --- for the agent server --------------------------------------------------------

    def verify(self, token: str) -> TokenGrant | None:
        """The grant of a token; None when it is unknown, expired, ended or revoked."""
        grant = self._derived(token) or self._static.verify(token)
        if grant is None or grant.token_id in self._revoked:
            return None
        return grant

    def bind(self, grant: TokenGrant, agent_id: str, labels: Sequence[str]) -> TokenGrant | None:
        """``grant`` as the one of ``agent_id``; None when it was issued to another agent,
        or for labels that we know by their hash only and that differ."""
        if not isinstance(grant, DerivedGrant):
            return grant
        if not hmac.compare_digest(grant.agent_ref, self._agent_ref(agent_id)):
            return None
        known = grant.labels
        if known is None:
            if not hmac.compare_digest(grant.labels_ref, self._labels_ref(labels)):
                return None
            known = token_bound(labels)
        return msgspec.structs.replace(grant, agent_id=agent_id, labels=known)

    # --- inside ----------------------------------------------------------------------

    def _derived(self, token: str) -> DerivedGrant | None:
        shape = _TOKEN.fullmatch(token)
        if shape is None:
            return None
        raw = bytes.fromhex(shape[1])
        tag, claim = raw[:_TAG_BYTES], self._crypt(raw[_TAG_BYTES:], raw[:_TAG_BYTES])
        genuine = hmac.new(self._mac_key, claim, hashlib.sha256).digest()[:_TAG_BYTES]
        if not hmac.compare_digest(tag, genuine) or claim[0] != _VERSION:
            return None
        expiry = int.from_bytes(claim[1:5], "big")
        agent_ref = claim[5 : 5 + _AGENT_BYTES]
        labels_ref = claim[5 + _AGENT_BYTES :]
        expired = expiry and self._wall() >= expiry and agent_ref not in self._held
        if expired or agent_ref in self._ended:
            return None
        return DerivedGrant(
            token_id=hashlib.sha256(token.encode()).hexdigest()[:32],
            kind="ephemeral",
            labels=self._scopes.get(labels_ref),
            expires_at=float(expiry) if expiry else None,
            agent_ref=agent_ref,
            labels_ref=labels_ref,
        )

    def _crypt(self, block: bytes, tag: bytes) -> bytes:
        pad = hmac.new(self._cipher_key, tag, hashlib.sha256).digest()
        return bytes(a ^ b for a, b in zip(block, pad, strict=False))

    def _agent_ref(self, agent_id: str) -> bytes:
        return self._ref(b"agent", agent_id)[:_AGENT_BYTES]

    def _labels_ref(self, labels: Sequence[str]) -> bytes:
        return self._ref(b"labels", "\n".join(token_bound(labels)))[:_LABELS_BYTES]

    def _ref(self, what: bytes, text: str) -> bytes:
        message = what + b"\0" + text.encode("utf-8", "surrogatepass")
        return hmac.new(self._ref_key, message, hashlib.sha256).digest()


def _remember(table: dict[Any, Any], key: Any, value: Any) -> None:
    table.pop(key, None)
    table[key] = value
    if len(table) > _MAX_REMEMBERED:
        del table[next(iter(table))]


def _load_key(path: Path) -> bytes:
    """The key file's 32 bytes, made when it is missing or damaged."""
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = b""
    except OSError as error:
        raise ConfigError([Problem(str(path), f"cannot be read: {error.strerror}")]) from None
    if len(key) == _KEY_BYTES:
        return key
    key = secrets.token_bytes(_KEY_BYTES)
    try:
        make_directory(path.parent)
        write_atomic(path, key)
    except OSError as error:
        raise ConfigError([Problem(str(path), f"cannot be written: {error.strerror}")]) from None
    return key


def _load_revoked(path: Path, now: float) -> dict[str, float]:
    try:
        known = msgspec.json.decode(path.read_bytes(), type=dict[str, float])
    except (OSError, msgspec.DecodeError):
        return {}
    return {token_id: at for token_id, at in known.items() if now - at < _REVOKED_S}
