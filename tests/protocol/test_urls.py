"""kici/protocol/urls.py: worker surface 2.4."""

import pytest

from kici.protocol.urls import check_coordinator_url, is_exposed, peer_url, shown_url, spelling_key


# P1, P2, W29, W30, W31, W32
@pytest.mark.parametrize(
    ("configured", "dialled"),
    [
        ("ws://h:4000", "ws://h:4000/ws/peer"),
        ("ws://h:4000/", "ws://h:4000/ws/peer"),
        ("ws://h:4000/ws/peer", "ws://h:4000/ws/peer"),
        ("ws://h:4000/ws/peer/", "ws://h:4000/ws/peer"),
        ("http://h:4000", "ws://h:4000/ws/peer"),
        ("https://h", "wss://h/ws/peer"),
        ("HTTPS://h", "wss://h/ws/peer"),
        ("wss://h/ws/peer", "wss://h/ws/peer"),
        ("wss://h/base/", "wss://h/base/ws/peer"),
        ("ws://h/?x=1#y", "ws://h/ws/peer?x=1"),
        (" ws://[::1]:4000 ", "ws://[::1]:4000/ws/peer"),
    ],
)
def test_peer_url_gives_what_is_dialled(configured, dialled):
    assert peer_url(configured) == dialled


# W33
@pytest.mark.parametrize(
    "configured",
    ["", "h:4000", "coordinator", "ftp://h", "ws://", "ws:///path", "ws://h:99999", "ws://h:0",
     "ws://h:port", "ws://h h", "ws://[::1", "//h:4000"],
)  # fmt: skip
@pytest.mark.parametrize("read", [check_coordinator_url, peer_url])
def test_what_cannot_be_dialled_is_refused(configured, read):
    with pytest.raises(ValueError, match="expected a URL"):
        read(configured)


@pytest.mark.parametrize("url", ["ftp://user:hunter2@h", "user:hunter2@h:4000", "//me:hunter2@h"])
def test_a_refusal_does_not_repeat_a_password(url):
    with pytest.raises(ValueError) as caught:
        check_coordinator_url(url)
    assert "hunter2" not in str(caught.value)


def test_spelling_key_joins_spellings_and_separates_places():
    same = ["ws://H:80", "http://h", "ws://h/ws/peer", "ws://h:80/"]
    assert len({spelling_key(url) for url in same}) == 1
    other = ["ws://h", "wss://h", "ws://h:81", "ws://h/base", "ws://g"]
    assert len({spelling_key(url) for url in other}) == 5


def test_shown_url_hides_user_and_password():
    assert shown_url("wss://me:pass@h:1/ws/peer") == "wss://h:1/ws/peer"
    assert shown_url("ws://me:p@ss@h:1") == "ws://h:1"
    assert shown_url("ws://h:1/a@b") == "ws://h:1/a@b"
    assert shown_url("wss://h/kici?token=abc") == "wss://h/kici?***"


@pytest.mark.parametrize(
    ("configured", "exposed"),
    [("ws://127.0.0.1:1", False), ("http://localhost", False), ("https://h", False), ("ws://h", 1)],
)
def test_is_exposed_only_for_plain_links_that_leave_the_machine(configured, exposed):
    assert is_exposed(configured) == bool(exposed)
