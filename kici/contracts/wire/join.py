"""The join conversation of a peer link (peer spec 4.1-4.3, appendix D)."""

import msgspec

from kici.contracts.wire import Number, Part, Wire


class PeerHello(Wire, tag="peer.hello", frozen=True, kw_only=True):
    """Coordinator -> worker, first frame, plain text; answered by ``peer.hello.response``."""

    ephemeral_public_key: str
    nonce: str
    auth_schemes: tuple[str, ...] | None = None


class PeerHelloResponse(Wire, tag="peer.hello.response", frozen=True, kw_only=True):
    """Worker -> coordinator, plain text; the session key exists after it."""

    ephemeral_public_key: str


class PeerAuthRequest(Wire, tag="peer.auth.request", frozen=True, kw_only=True):
    """Worker -> coordinator, encrypted; answered by ``peer.auth.response`` within 15 s.

    Exactly one of ``token``, ``proof``, ``client_proof`` is present; the last with
    ``scheme="mutual-v2"`` and ``mode`` (appendix D), in token mode with ``token_routing``.
    """

    instance_id: str
    protocol_version: Number
    software_version: str | None = None
    role: str | None = None
    token: str | None = None
    proof: str | None = None
    scheme: str | None = None
    mode: str | None = None
    client_proof: str | None = None
    token_routing: str | None = None


class PeerAuthResponse(Wire, tag="peer.auth.response", frozen=True, kw_only=True):
    """Coordinator -> worker, encrypted. ``session_credential`` is SECRET.

    ``agents``, ``scalerCapacity`` and ``capabilities`` are not read: odd content there must
    not spoil an acceptance (P29).
    """

    accepted: bool
    instance_id: str | None = None
    reason: str | None = None
    session_credential: str | None = None
    role: str | None = None
    software_version: str | None = None
    server_proof: str | None = None
    #: Ours: this coordinator knows the numbers of log lines and drops what it has already.
    counts_lines: bool | None = None
    agents: msgspec.Raw = msgspec.Raw()
    capabilities: msgspec.Raw = msgspec.Raw()


class StoredCredential(Part, frozen=True, kw_only=True):
    """The credential file (peer spec 2.5): four keys, mode 0600, 2-space JSON. SECRET."""

    instance_id: str
    credential: str
    role: str
    issued_at: str
