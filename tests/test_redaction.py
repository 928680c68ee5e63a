import pytest

from kici.config.model import Secret
from kici.redaction import is_secret_name, plain, redact

HEX = "0123456789abcdef" * 4


# W145
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"token kat_{HEX} sent", "token kat_*** sent"),
        ("kici_join_v1.abc-D_e.fgh used", "kici_join_v1.*** used"),
        (f"credential {HEX}", "credential ***"),
        (f"credential:{HEX.upper()}", "credential:***"),
        ("ws://user:pa:ss@host:1/x", "ws://***@host:1/x"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer ***"),
        ('{"authorization":"Basic dXNlcg=="}', '{"authorization":"Basic ***"}'),
        ("proxy-authorization=abcdef", "proxy-authorization=***"),
        ("sent bearer eyJhbGciOi", "sent bearer ***"),
    ],
)
def test_a_secret_of_a_known_form_is_masked(text, expected):
    assert redact(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        f"image x@sha256:{HEX}",
        f"a longer run {HEX}0",
        "mail someone@example.org",
        "http://host/path@2",
        "run 0b8f3c3e-1111-4222-8333-444455556666",
        "the bearer token was refused",
        "authorization is needed",
        "plain",
    ],
)
def test_what_is_no_secret_is_kept(text):
    assert redact(text) == text


def test_fields_are_secret_by_name():
    for name in (
        "token",
        "joinToken",
        "admin_password",
        "authorization",
        "client.secret",
        "apiKey",
    ):
        assert is_secret_name(name), name
    for name in ("tokenId", "tokens", "secretName", "credentialFile", "state", "key"):
        assert not is_secret_name(name), name


def test_an_object_is_shown_by_its_own_text_at_any_depth():
    value = {"a": [Secret("hunter2"), {"password": "hunter2", "b": {1}}], 2: None}
    assert plain(value) == {"a": ["Secret(***)", {"password": "***", "b": [1]}], "2": None}
    endless: list = []
    endless.append(endless)
    assert "…" in repr(plain(endless))
