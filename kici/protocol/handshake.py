"""Cryptography of the peer link (peer spec 2.1-2.6, appendix D). Pure; keys are arguments.

Vectors of the spec's appendix A are reproduced in ``tests/protocol/test_handshake.py``.
"""

import base64
import binascii
import hashlib
import hmac
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kici.errors import RemoteError

#: DER SubjectPublicKeyInfo of X25519: these 12 bytes, then the 32 raw ones.
SPKI_PREFIX = bytes.fromhex("302a300506032b656e032100")
NONCE_BYTES = 32
IV_BYTES = 12
TAG_BYTES = 16
MUTUAL_SCHEME = "mutual-v2"


def public_spki(private: X25519PrivateKey) -> bytes:
    """The 44-byte SPKI form of a private key's public half."""
    return SPKI_PREFIX + private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def encode_key(private: X25519PrivateKey) -> str:
    """``ephemeralPublicKey`` as it stands on the wire."""
    return base64.b64encode(public_spki(private)).decode("ascii")


def decode_key(text: str) -> bytes:
    """The 44 SPKI bytes in ``text``; ``RemoteError`` 4003 when it is no X25519 key."""
    try:
        spki = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RemoteError(4003, "Key derivation failed") from None
    if len(spki) != 44 or not spki.startswith(SPKI_PREFIX):
        raise RemoteError(4003, "Key derivation failed")
    return spki


def decode_nonce(text: str) -> bytes:
    """The 32 nonce bytes in ``text``."""
    try:
        nonce = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RemoteError(4003, "Key derivation failed") from None
    if len(nonce) != NONCE_BYTES:
        raise RemoteError(4003, "Key derivation failed")
    return nonce


def session_key(private: X25519PrivateKey, other_spki: bytes, nonce: bytes) -> bytes:
    """K, 32 bytes (2.6). Low-order points are refused by the library (C3)."""
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(other_spki[12:]))
    except ValueError:
        raise RemoteError(4003, "Key derivation failed") from None
    return HKDF(hashes.SHA256(), 32, nonce, b"kici-peer-v1").derive(shared)


class Sealer:
    """The record layer: ``base64(iv | tag | ciphertext)``, one key for both directions."""

    __slots__ = ("_aes",)

    def __init__(self, key: bytes) -> None:
        self._aes = AESGCM(key)

    def seal(self, plaintext: bytes, iv: bytes) -> str:
        """One frame; ``iv`` are 12 fresh random bytes."""
        sealed = self._aes.encrypt(iv, plaintext, None)
        record = b"".join((iv, sealed[-TAG_BYTES:], sealed[:-TAG_BYTES]))
        return binascii.b2a_base64(record, newline=False).decode("ascii")

    def open(self, frame: str | bytes) -> bytes | None:
        """The plaintext of a frame, or None when it does not decrypt."""
        try:
            record = binascii.a2b_base64(frame)
            if len(record) < IV_BYTES + TAG_BYTES:
                return None
            iv, tag = record[:IV_BYTES], record[IV_BYTES : IV_BYTES + TAG_BYTES]
            return self._aes.decrypt(iv, record[IV_BYTES + TAG_BYTES :] + tag, None)
        except (binascii.Error, ValueError, InvalidTag):
            return None


def credential_hash(credential: str) -> bytes:
    """What a coordinator stores of a credential: SHA-256 over its 64 ASCII characters."""
    return hashlib.sha256(credential.encode("utf-8")).digest()


def credential_proof(hashed: bytes, nonce: bytes, instance_id: str) -> str:
    """``proof`` of ``peer.auth.request`` (2.6)."""
    text = base64.b64encode(nonce) + b":" + instance_id.encode("utf-8")
    return hmac.new(hashed, text, hashlib.sha256).hexdigest()


# --- mutual-v2, appendix D -----------------------------------------------------------


def _fields(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def transcript_hash(
    acceptor_spki: bytes, nonce: bytes, schemes: tuple[str, ...], dialer_spki: bytes
) -> bytes:
    """TH: what both ends saw of the key exchange."""
    return hashlib.sha256(
        _fields(
            b"kici-peer-auth-v2",
            acceptor_spki,
            nonce,
            ",".join(schemes).encode("utf-8"),
            dialer_spki,
        )
    ).digest()


def client_proof(
    psk: bytes,
    transcript: bytes,
    *,
    mode: str,
    instance_id: str,
    role: str,
    protocol_version: int,
    token_routing: str = "",
) -> bytes:
    """``clientProof``: ``psk`` is the credential's or the token secret's hash."""
    return hmac.new(
        psk,
        _fields(
            b"kici-peer-v2/client",
            transcript,
            mode.encode(),
            instance_id.encode("utf-8"),
            role.encode(),
            str(protocol_version).encode(),
            token_routing.encode(),
        ),
        hashlib.sha256,
    ).digest()


def server_proof(
    psk: bytes,
    transcript: bytes,
    client: bytes,
    *,
    acceptor_id: str,
    role: str,
    session_credential: str | None,
) -> bytes:
    """``serverProof``: proves that the coordinator knows the same secret."""
    credential = credential_hash(session_credential) if session_credential else b""
    return hmac.new(
        psk,
        _fields(
            b"kici-peer-v2/server",
            transcript,
            client,
            acceptor_id.encode("utf-8"),
            role.encode(),
            credential,
        ),
        hashlib.sha256,
    ).digest()


def application_key(
    handshake_key: bytes, psk: bytes, transcript: bytes, client: bytes, server: bytes
) -> bytes:
    """K_app: the key of every frame after a mutual authentication."""
    salt = hashlib.sha256(transcript + client + server).digest()
    return HKDF(hashes.SHA256(), 32, salt, b"kici-peer-v2/app").derive(handshake_key + psk)
