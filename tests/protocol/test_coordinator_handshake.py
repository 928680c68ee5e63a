"""Odd input before and after authentication gets a verdict, never an exception (C3, C4, C5)."""

import json

import pytest

from kici.contracts.wire.join import PeerAuthRequest
from kici.protocol.coordinator_actions import Failed, Phase
from kici.protocol.coordinator_auth import Refused, decide
from kici.protocol.machine import Note
from tests.protocol.test_coordinator_session import Acceptor, MemoryDoor, closes, kinds
from tests.support.dialer import Dialer

#: Deeper than any decoder's stack.
DEEP = b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b","


# C3
def test_deeply_nested_hello_response_is_refused():
    frame = DEEP + b'"type":"peer.hello.response","ephemeralPublicKey":"x"}'
    assert closes(Acceptor().receive(frame)) == [(4003, "Expected hello response")]


# C4
def test_deeply_nested_auth_request_is_refused():
    acceptor, dialer = Acceptor(), Dialer()
    acceptor.receive(dialer.hello_response(acceptor.hello))
    actions = acceptor.receive(dialer.seal(DEEP + b'"type":"peer.auth.request"}'))
    assert closes(actions) == [(4003, "Invalid auth request")]


def test_deeply_nested_message_is_dropped_and_the_link_stays():
    acceptor = Acceptor()
    dialer = acceptor.joined()
    actions = acceptor.receive(dialer.seal(DEEP + b'"type":"peer.leaving"}'))
    assert kinds(actions) == [Note]
    assert acceptor.session.phase is Phase.CONNECTED


# C5
@pytest.mark.parametrize("version", [-(10**400), -1e308, -1.5], ids=["huge", "large", "less"])
def test_absurd_version_is_refused_as_too_low(version):
    request = PeerAuthRequest(instance_id="worker-7", protocol_version=version, token="x")
    verdict = decide(request, b"", b"", 1, MemoryDoor())
    assert isinstance(verdict, Refused)
    assert (verdict.code, verdict.counted) == (4005, True)
    assert verdict.reason.endswith(" < 1")


# C5, C8
def test_absurd_versions_of_a_real_frame_are_refused_and_counted():
    for version in (-(10**400), 10**400):
        acceptor, dialer = Acceptor(), Dialer(token="x", protocolVersion=version)
        for frame in dialer.answer(acceptor.hello):
            actions = acceptor.receive(frame)
        assert closes(actions)[0][0] in (4001, 4005), json.dumps(str(version)[:9])
        assert Failed in kinds(actions)
