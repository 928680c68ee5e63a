"""Who may join: the decision of the acceptor end (peer spec 2.3, 3.1-3.11, appendix D). Pure;
what is stored is asked through ``Door``, whose owner is the coordinator's store."""

import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Protocol

import msgspec

from kici.contracts.wire.join import PeerAuthRequest
from kici.errors import KiciError
from kici.protocol.handshake import MUTUAL_SCHEME, client_proof, credential_proof

_TOKEN = re.compile(r"kici_join_v1\.([A-Za-z0-9_-]+)\.([0-9a-f]{64})")
#: Also the name of a file or a metric somewhere: kept harmless (peer spec 4.3).
_INSTANCE_ID = re.compile(r"[A-Za-z0-9._:@-]{1,128}")
#: Integers that JSON, JavaScript and floats all hold exactly.
LARGEST = 2**53
#: How many token rows of one routing triple are tried against a proof (appendix D, 6).
MAX_PROOF_CHECKS = 8


class DoorError(KiciError):
    """The store cannot answer; the peer gets ``Auth error`` (C22)."""


class Credential(msgspec.Struct, frozen=True):
    """An active credential row: SHA-256 of its text, and the role that was granted."""

    hashed: bytes
    role: str


class Joined(msgspec.Struct, frozen=True):
    """A consumed token: the granted role and the new credential's text. SECRET."""

    role: str
    credential: str


class Door(Protocol):
    """What the decision asks of the store. Every method may raise ``DoorError``."""

    def credential(self, instance_id: str) -> Credential | None:
        """The instance's credential that is neither revoked nor expired."""

    def token_hashes(self, routing: str) -> Sequence[bytes]:
        """Hashes of unexpired tokens whose stored routing triple equals the presented
        ``routing`` part (mutual authentication in token mode)."""

    def join(self, token_hash: bytes, instance_id: str, claimed_role: str | None) -> Joined | str:
        """Consume the token and issue a credential in one transaction, or say why not:
        ``Invalid token`` or ``Role mismatch``. A refusal changes nothing (C20)."""

    def welcomed(self, instance_id: str) -> None:
        """The instance authenticated with its credential now."""


class Accepted(msgspec.Struct, frozen=True):
    """``psk`` and ``client`` only after a mutual authentication. Holds SECRETS."""

    instance_id: str
    role: str
    credential: str | None = None
    psk: bytes | None = None
    client: bytes | None = None


class Refused(msgspec.Struct, frozen=True):
    """``answered``: a refusing response precedes the close. ``counted``: towards the limit."""

    code: int
    reason: str
    answered: bool = True
    counted: bool = True


Verdict = Accepted | Refused


def decide(
    request: PeerAuthRequest, nonce: bytes, transcript: bytes, minimum: int, door: Door
) -> Verdict:
    """The verdict on ``request``; ``transcript`` is appendix D's TH."""
    if request.protocol_version < minimum:
        # JSON knows integers that no float holds.
        version = f"{max(request.protocol_version, -LARGEST):g}"
        return Refused(4005, f"Unsupported protocol version: {version} < {minimum}")
    if not _INSTANCE_ID.fullmatch(request.instance_id):
        return Refused(4003, "Invalid auth request", answered=False, counted=False)
    try:
        if request.scheme == MUTUAL_SCHEME and request.client_proof:
            return _mutual(request, transcript, door)
        if request.token:
            return _token(request, request.token, door)
        if request.proof:
            return _credential(request, request.proof, nonce, door)
    except DoorError:
        return Refused(4001, "Auth error", answered=False, counted=False)
    return Refused(4001, "Missing auth method")


def token_hash(token: str) -> bytes | None:
    """SHA-256 of a join token's secret bytes; None when the text is no token (C8)."""
    match = _TOKEN.fullmatch(token)
    return hashlib.sha256(bytes.fromhex(match[2])).digest() if match else None


def _token(request: PeerAuthRequest, token: str, door: Door) -> Verdict:
    hashed = token_hash(token)
    if hashed is None:
        return Refused(4001, "Invalid token")
    return _joined(request, door.join(hashed, request.instance_id, request.role))


def _joined(request: PeerAuthRequest, outcome: Joined | str) -> Verdict:
    if isinstance(outcome, str):
        return Refused(4001, outcome)
    return Accepted(request.instance_id, outcome.role, outcome.credential)


def _credential(request: PeerAuthRequest, proof: str, nonce: bytes, door: Door) -> Verdict:
    stored = door.credential(request.instance_id)
    if stored is None:
        return Refused(4001, "Unknown credential")
    expected = credential_proof(stored.hashed, nonce, request.instance_id)
    if not hmac.compare_digest(expected.encode(), proof.lower().encode("utf-8", "replace")):
        return Refused(4001, "Invalid proof")
    return _welcome(request, stored, door)


def _welcome(request: PeerAuthRequest, stored: Credential, door: Door) -> Verdict:
    if request.role is not None and request.role != stored.role:
        return Refused(4001, "Role mismatch")
    door.welcomed(request.instance_id)
    return Accepted(request.instance_id, stored.role)


def _mutual(request: PeerAuthRequest, transcript: bytes, door: Door) -> Verdict:
    try:
        presented = binascii.unhexlify(request.client_proof or "")
    except (binascii.Error, ValueError):
        return Refused(4001, "Invalid proof")
    if request.mode == "token":
        for psk in list(door.token_hashes(request.token_routing or ""))[:MAX_PROOF_CHECKS]:
            if hmac.compare_digest(_client(request, psk, transcript), presented):
                verdict = _joined(request, door.join(psk, request.instance_id, request.role))
                return _bound(verdict, psk, presented)
        return Refused(4001, "Invalid token")
    stored = door.credential(request.instance_id)
    if stored is None:
        return Refused(4001, "Unknown credential")
    if not hmac.compare_digest(_client(request, stored.hashed, transcript), presented):
        return Refused(4001, "Invalid proof")
    return _bound(_welcome(request, stored, door), stored.hashed, presented)


def _bound(verdict: Verdict, psk: bytes, client: bytes) -> Verdict:
    if isinstance(verdict, Refused):
        return verdict
    return Accepted(verdict.instance_id, verdict.role, verdict.credential, psk, client)


def _client(request: PeerAuthRequest, psk: bytes, transcript: bytes) -> bytes:
    return client_proof(
        psk,
        transcript,
        mode=request.mode or "",
        instance_id=request.instance_id,
        role=request.role or "",
        protocol_version=int(request.protocol_version),
        token_routing=(request.token_routing or "") if request.mode == "token" else "",
    )
