"""The key exchange and the authentication answer of the acceptor end (peer spec 2.6, 4.1-4.3,
appendix D). Owns the connection's keys until the session takes the finished sealer."""

import base64

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from kici.contracts.wire import encode
from kici.contracts.wire.join import (
    PeerAuthRequest,
    PeerAuthResponse,
    PeerHello,
    PeerHelloResponse,
)
from kici.errors import RemoteError
from kici.protocol import handshake
from kici.protocol.coordinator_auth import Accepted, Refused

_hello_response = msgspec.json.Decoder(PeerHelloResponse)
_auth_request = msgspec.json.Decoder(PeerAuthRequest)
SCHEMES = (handshake.MUTUAL_SCHEME,)


class AcceptorHandshake:
    """Owns: private key, nonce and keys of one connection. Told by: its session.

    Mistakes of the dialer raise ``RemoteError`` with the close code of table 3.11.
    """

    def __init__(self, acceptor_id: str, version: str, key: X25519PrivateKey, nonce: bytes) -> None:
        self.nonce = nonce
        self.transcript = b""
        self._acceptor_id = acceptor_id
        self._version = version
        self._private = key
        self._spki = handshake.public_spki(key)
        self._key = b""

    def hello(self) -> bytes:
        """The first frame, plain text (C1)."""
        return encode(
            PeerHello(
                ephemeral_public_key=handshake.encode_key(self._private),
                nonce=base64.b64encode(self.nonce).decode("ascii"),
                auth_schemes=SCHEMES,
            )
        )

    def derive(self, frame: str | bytes) -> handshake.Sealer | None:
        """The record layer from the hello response; None when the frame is not JSON, which
        is ignored while the timer goes on (3.11 row 2)."""
        try:
            response = _hello_response.decode(frame)
        except (msgspec.ValidationError, RecursionError):  # or nested beyond our stack
            raise RemoteError(4003, "Expected hello response") from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        spki = handshake.decode_key(response.ephemeral_public_key)
        self._key = handshake.session_key(self._private, spki, self.nonce)
        self.transcript = handshake.transcript_hash(self._spki, self.nonce, SCHEMES, spki)
        return handshake.Sealer(self._key)

    @staticmethod
    def request(sealer: handshake.Sealer, frame: str | bytes) -> PeerAuthRequest:
        """The dialer's wish (3.11 rows 5-7)."""
        plaintext = sealer.open(frame)
        if plaintext is None:
            raise RemoteError(4001, "Decryption failed")
        try:
            return _auth_request.decode(plaintext)
        except (msgspec.ValidationError, RecursionError):
            raise RemoteError(4003, "Invalid auth request") from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise RemoteError(4003, "Invalid auth format") from None

    def refusal(self, verdict: Refused) -> PeerAuthResponse:
        """What precedes the close of an answered refusal."""
        return PeerAuthResponse(
            accepted=False,
            instance_id=self._acceptor_id,
            reason=verdict.reason,
            software_version=self._version,
        )

    def acceptance(
        self, verdict: Accepted, sealer: handshake.Sealer
    ) -> tuple[PeerAuthResponse, handshake.Sealer]:
        """The answer, to be sealed as before, and the record layer for all that follows."""
        proof = self._server_proof(verdict)
        response = PeerAuthResponse(
            accepted=True,
            instance_id=self._acceptor_id,
            session_credential=verdict.credential,
            role=verdict.role,
            software_version=self._version,
            server_proof=proof.hex() if proof else None,
            counts_lines=True,
            agents=msgspec.Raw(b"[]"),
            capabilities=msgspec.Raw(b'{"s3LogAccess":false}'),
        )
        if proof is None or verdict.psk is None or verdict.client is None:
            return response, sealer
        key = handshake.application_key(
            self._key, verdict.psk, self.transcript, verdict.client, proof
        )
        return response, handshake.Sealer(key)

    def _server_proof(self, verdict: Accepted) -> bytes | None:
        if verdict.psk is None or verdict.client is None:
            return None
        return handshake.server_proof(
            verdict.psk,
            self.transcript,
            verdict.client,
            acceptor_id=self._acceptor_id,
            role=verdict.role,
            session_credential=verdict.credential,
        )
