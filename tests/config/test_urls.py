import pytest

from kici.config.urls import check_coordinator_url, dial_url, without_user_info


# W29, W30, W31, W32
@pytest.mark.parametrize(
    ("configured", "dialled"),
    [
        ("ws://h:4000", "ws://h:4000/ws/peer"),
        ("ws://h:4000/", "ws://h:4000/ws/peer"),
        ("ws://h:4000/ws/peer", "ws://h:4000/ws/peer"),
        ("ws://h:4000/ws/peer/", "ws://h:4000/ws/peer"),
        ("wss://h/ws/peer", "wss://h/ws/peer"),
        ("http://h:4000", "ws://h:4000/ws/peer"),
        ("https://h", "wss://h/ws/peer"),
        ("HTTPS://h", "wss://h/ws/peer"),
        ("wss://h/prefix/", "wss://h/prefix/ws/peer"),
        ("ws://[::1]:4000?x=1#y", "ws://[::1]:4000/ws/peer?x=1"),
    ],
)
def test_what_is_dialled_follows_from_what_is_configured(configured, dialled):
    assert dial_url(check_coordinator_url(configured)) == dialled


# W33
@pytest.mark.parametrize(
    "text",
    ["coordinator", "coordinator:4000", "ftp://h", "ws://", "ws:///path", "ws://h:99999",
     "ws://h:0", "ws://h:port", "ws://h h", "ws://[::1", "ws://h\n", "//h:4000"],
)  # fmt: skip
def test_what_cannot_be_dialled_is_refused(text):
    with pytest.raises(ValueError, match="expected a URL"):
        check_coordinator_url(text)


def test_a_refusal_does_not_repeat_a_password():
    with pytest.raises(ValueError) as caught:
        check_coordinator_url("ftp://user:hunter2@h")
    assert "hunter2" not in str(caught.value)
    assert without_user_info("ws://user:hunter2@h:1/x") == "ws://***@h:1/x"
