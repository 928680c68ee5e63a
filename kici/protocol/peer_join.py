"""The dialer's half of the handshake: hello, authentication, key switch (peer spec 3, D)."""

import hashlib
import hmac
from collections.abc import Callable

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
from kici.protocol.machine import Actions, Close, Note, Send
from kici.protocol.peer_actions import (
    ROLE,
    VERSION,
    VERSION_MUTUAL,
    Authentication,
    Choose,
    Joined,
    PeerSettings,
    Refused,
)

_hello = msgspec.json.Decoder(PeerHello)
_response = msgspec.json.Decoder(PeerAuthResponse)


class PeerJoin:
    """Owns: the key exchange of one connection until it is accepted.

    ``sealer`` is the record layer in force; after acceptance it is the session's.
    """

    def __init__(
        self, settings: PeerSettings, private: X25519PrivateKey, entropy: Callable[[int], bytes]
    ) -> None:
        self._settings = settings
        self._private = private
        self._entropy = entropy
        self._nonce = b""
        self._key = b""
        self.mutual = False  # appendix D is spoken: the coordinator is 0.15 or newer, or ours
        self._transcript = b""
        self._psk = b""
        self._client_proof = b""
        self.sealer: handshake.Sealer | None = None
        self.asked = False

    def hello(self, frame: bytes) -> Actions:
        """The first frame; whatever is no hello is ignored (P14)."""
        try:
            hello = _hello.decode(frame)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return []
        try:
            spki = handshake.decode_key(hello.ephemeral_public_key)
            self._nonce = handshake.decode_nonce(hello.nonce)
            self._key = handshake.session_key(self._private, spki, self._nonce)
        except RemoteError as error:
            return [Close(1000, error.reason)]
        schemes = hello.auth_schemes or ()
        self.mutual = handshake.MUTUAL_SCHEME in schemes
        own = handshake.public_spki(self._private)
        self._transcript = handshake.transcript_hash(spki, self._nonce, schemes, own)
        self.sealer = handshake.Sealer(self._key)
        answer = PeerHelloResponse(ephemeral_public_key=handshake.encode_key(self._private))
        return [Send(encode(answer).decode()), Choose()]

    def authenticate(self, choice: Authentication | None) -> Actions:
        """Send the request for ``choice``; without one the connection is of no use (P20)."""
        if choice is None:
            text = "No auth method available: no credential file and no join token"
            return [Note("error", text), Close(1000, "No auth method")]
        try:
            request = self._mutual_request(choice) if self.mutual else self._request(choice)
        except ValueError:
            return [Note("error", "The join token is malformed"), Close(1000, "No auth method")]
        self.asked = True
        fields = {"scheme": request.scheme or "plain", "protocolVersion": request.protocol_version}
        note = Note("info", f"Sending {choice.mode}-based auth request", fields)
        return [note, Send(self.seal(encode(request)))]

    def response(self, frame: bytes) -> Actions:
        """The coordinator's verdict; anything else is ignored (3.0, 6)."""
        plain = self.sealer.open(frame) if self.sealer else None
        if plain is None:
            return []
        try:
            answer = _response.decode(plain)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return []
        if not answer.accepted:
            return self._refused(answer.reason or "no reason given")
        if self.mutual and not self._switch_keys(answer):
            note = Note("error", "Coordinator could not prove that it knows our secret")
            return [note, Close(4001, "Invalid server proof")]
        version = {"version": answer.software_version or "unknown"}
        accepted = {"coordinatorId": answer.instance_id, "mutual": self.mutual}
        return [
            Note("info", "Coordinator software version", version),
            Note("info", "Peer auth accepted", accepted),
            Joined(
                answer.instance_id,
                answer.software_version,
                answer.session_credential,
                answer.role,
                bool(answer.counts_lines),
            ),
        ]

    def seal(self, plaintext: bytes) -> str:
        assert self.sealer is not None
        return self.sealer.seal(plaintext, self._entropy(handshake.IV_BYTES))

    def _refused(self, reason: str) -> Actions:
        note = Note("error", "Peer auth rejected", {"reason": reason})
        return [note, Refused(reason), Close(1000, "Auth rejected")]

    def _request(self, choice: Authentication) -> PeerAuthRequest:
        if choice.mode == "token":
            return self._base(VERSION, token=choice.secret)
        hashed = handshake.credential_hash(choice.secret)
        proof = handshake.credential_proof(hashed, self._nonce, self._settings.instance_id)
        return self._base(VERSION, proof=proof)

    def _mutual_request(self, choice: Authentication) -> PeerAuthRequest:
        routing = ""
        if choice.mode == "token":
            routing, self._psk = split_token(choice.secret)
        else:
            self._psk = handshake.credential_hash(choice.secret)
        self._client_proof = handshake.client_proof(
            self._psk,
            self._transcript,
            mode=choice.mode,
            instance_id=self._settings.instance_id,
            role=ROLE,
            protocol_version=VERSION_MUTUAL,
            token_routing=routing,
        )
        return self._base(
            VERSION_MUTUAL,
            scheme=handshake.MUTUAL_SCHEME,
            mode=choice.mode,
            client_proof=self._client_proof.hex(),
            token_routing=routing or None,
        )

    def _base(self, version: int, **proof: str | None) -> PeerAuthRequest:
        return PeerAuthRequest(
            instance_id=self._settings.instance_id,
            protocol_version=version,
            software_version=self._settings.software_version,
            role=ROLE,
            **proof,
        )

    def _switch_keys(self, answer: PeerAuthResponse) -> bool:
        """Check the server's proof before believing anything (D, 9), then change the key."""
        expected = handshake.server_proof(
            self._psk,
            self._transcript,
            self._client_proof,
            acceptor_id=answer.instance_id or "",
            role=answer.role or "",
            session_credential=answer.session_credential,
        )
        shown = (answer.server_proof or "").lower().encode()
        if not hmac.compare_digest(expected.hex().encode(), shown):
            return False
        self.sealer = handshake.Sealer(
            handshake.application_key(
                self._key, self._psk, self._transcript, self._client_proof, expected
            )
        )
        return True


def split_token(token: str) -> tuple[str, bytes]:
    """The routing part and the key made of the secret; ``ValueError`` for a malformed one."""
    parts = token.strip().split(".")
    if len(parts) != 3 or parts[0] != "kici_join_v1" or len(parts[2]) != 64:
        raise ValueError("malformed join token")
    return parts[1], hashlib.sha256(bytes.fromhex(parts[2])).digest()
