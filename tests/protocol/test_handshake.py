"""The vectors of peer spec appendix A, mutual-v2 included."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from kici.errors import RemoteError
from kici.protocol import handshake
from kici.protocol.peer_join import split_token

ACCEPTOR = X25519PrivateKey.from_private_bytes(bytes(range(0x01, 0x21)))
DIALER = X25519PrivateKey.from_private_bytes(bytes(range(0x41, 0x61)))
ACCEPTOR_KEY = "MCowBQYDK2VuAyEAB6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw="
DIALER_KEY = "MCowBQYDK2VuAyEAZLEBsdC+WocEvQePmJUAH8A+jp+VIvGI3RKNmEbUhGY="
NONCE = bytes(range(0x80, 0xA0))
K = "3d02a3203abaac0986a92fc29929b88564b3cc9aaa526e9e9414adbd36877e9b"
CREDENTIAL = "ab" * 32
TOKEN = (
    "kici_join_v1.eyJvcmdJZCI6ImRlZmF1bHQiLCJyb3V0aW5nS2V5IjoiZGVmYXVsdCIsImV4cGlyeSI6MTg5Mz"
    "Q1NjAwMDAwMCwicm9sZSI6IndvcmtlciJ9."
    "c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf"
)
TOKEN_HASH = "ec071e0a0136c837c051cee6a7713edbaea6936712d1a3ca37e84fee3226e61d"
FRAME = (
    "8PHy8/T19vf4+fr7alS1u9ZRBSlYNG2f7f9oxW/Q2qQZ3Wzw6AgLsV8o76j1j0U1j98T9rg+zBUf11UWDycsBDAX"
    "mEaWCHBSQKOQZ5qQdrSXQchb"
)
LEAVING = b'{"type":"peer.leaving","instanceId":"worker-7","term":0}'


# P13
def test_public_keys_have_the_44_byte_form():
    assert handshake.encode_key(ACCEPTOR) == ACCEPTOR_KEY
    assert handshake.encode_key(DIALER) == DIALER_KEY
    assert len(handshake.decode_key(DIALER_KEY)) == 44


# P13
@pytest.mark.parametrize(("private", "other"), [(DIALER, ACCEPTOR_KEY), (ACCEPTOR, DIALER_KEY)])
def test_both_ends_derive_the_session_key(private, other):
    assert handshake.session_key(private, handshake.decode_key(other), NONCE).hex() == K


# P13, P17
def test_the_proof_is_the_vector():
    hashed = handshake.credential_hash(CREDENTIAL)
    assert hashed.hex() == "271a413bd339c5709fdceaec41f14f11e9fbfb5042d72d331c65f32b284cd09a"
    proof = handshake.credential_proof(hashed, NONCE, "worker-7")
    assert proof == "53f111e2fb60c4ba2ebf7e53d7d56f98b4c86494ac643aae8d90f168c53312a4"


# P13
def test_the_record_is_the_vector_both_ways():
    sealer = handshake.Sealer(bytes.fromhex(K))
    assert sealer.seal(LEAVING, bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafb")) == FRAME
    assert sealer.open(FRAME) == LEAVING
    assert sealer.open(FRAME.encode()) == LEAVING


# P68
@pytest.mark.parametrize(
    "frame", ["", "AAAA", "no base64 at all!", FRAME[:-8], "A" + FRAME[1:], "\u00e9", "{}"]
)
def test_a_record_that_does_not_decrypt_is_none(frame):
    assert handshake.Sealer(bytes.fromhex(K)).open(frame) is None


@pytest.mark.parametrize(
    "key", ["", "%%%", "AAAA", ACCEPTOR_KEY[:-4], base64.b64encode(b"\0" * 44).decode()]
)
def test_an_unusable_public_key_is_refused(key):
    with pytest.raises(RemoteError) as refused:
        handshake.decode_key(key)
    assert refused.value.code == 4003


def test_a_low_order_point_is_refused():
    zero = handshake.SPKI_PREFIX + bytes(32)
    with pytest.raises(RemoteError):
        handshake.session_key(DIALER, zero, NONCE)


def test_a_nonce_must_have_32_bytes():
    assert handshake.decode_nonce(base64.b64encode(NONCE).decode()) == NONCE
    with pytest.raises(RemoteError):
        handshake.decode_nonce(base64.b64encode(NONCE[:31]).decode())


MUTUAL = {
    "credential": (
        handshake.credential_hash(CREDENTIAL),
        "",
        None,
        "21be6359258a787e64ab1ff7d5d92f0b1149460db44f6237cc4a72aed611c40d",
        "9577f20820e7e2b4a94ff3dcdf6e37dfcbefb3299bea7053626685b93ea34c12",
        "71e9011b5ef89599cdf81a6a1161a41a2d2e7ff99b98f47cbb7609ab28ca0f59",
    ),
    "token": (
        bytes.fromhex(TOKEN_HASH),
        TOKEN.split(".")[1],
        "cd" * 32,
        "0561d57d626d2425714505aa33117be87969d070c8920bd60a9a0c22dfda7787",
        "c6220b55c6d649472a0f87259f6eebd18ca21ed03e24042576644f20ec3953da",
        "9f332acbbc60729bd989c68d94bdc3d232072f1e2f82db840b39b0bbbe55fdc2",
    ),
}


# P13
@pytest.mark.parametrize("mode", MUTUAL)
def test_mutual_v2_is_the_vector(mode):
    psk, routing, credential, client_hex, server_hex, key_hex = MUTUAL[mode]
    transcript = handshake.transcript_hash(
        handshake.public_spki(ACCEPTOR), NONCE, ("mutual-v2",), handshake.public_spki(DIALER)
    )
    assert transcript.hex() == "e1e707cc036741a04f3cbbc1f594e05f79e7fa8c8aac5781e95e109ff0594f61"
    client = handshake.client_proof(
        psk,
        transcript,
        mode=mode,
        instance_id="worker-7",
        role="worker",
        protocol_version=4,
        token_routing=routing,
    )
    assert client.hex() == client_hex
    server = handshake.server_proof(
        psk,
        transcript,
        client,
        acceptor_id="coord-1",
        role="worker",
        session_credential=credential,
    )
    assert server.hex() == server_hex
    key = handshake.application_key(bytes.fromhex(K), psk, transcript, client, server)
    assert key.hex() == key_hex


def test_a_token_is_split_into_routing_and_hash():
    routing, hashed = split_token(TOKEN)
    assert routing == TOKEN.split(".")[1]
    assert hashed.hex() == TOKEN_HASH
    for bad in ("", "kici_join_v1.x", TOKEN[:-2], TOKEN[:-2] + "zz", "other" + TOKEN):
        with pytest.raises(ValueError):
            split_token(bad)
