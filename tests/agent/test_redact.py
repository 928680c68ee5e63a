"""Masking, as a function."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kici.agent.redact import Redactor, _spans


@pytest.mark.parametrize("before", range(6))
@pytest.mark.parametrize("after", range(4))
# A93
def test_base64_of_a_text_around_the_secret_shows_none_of_it(before, after):
    secret = "s3cr3t-value-of-some-length"
    text = b"x" * before + secret.encode() + b"y" * after
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        masked = Redactor([secret]).mask(encode(text))
        assert b"***" in masked
        rest = masked.replace(b"***", b"")
        # What is left are the characters that hold bits of the surroundings.
        assert len(rest) <= len(encode(b"x" * before)) + len(encode(b"y" * after)) + 8


@pytest.mark.parametrize("width", [64, 76])
@pytest.mark.parametrize("after", ["", "\n", "\nanother line"])
@pytest.mark.parametrize("size", [30, 57, 58, 100, 114, 3000])
# A93
def test_base64_in_lines_as_the_commands_write_it_shows_nothing(size, after, width):
    secret = "".join(chr(33 + n * 7 % 90) for n in range(size))
    text = base64.b64encode((secret + after).encode()).decode()
    text = "\n".join(text[at : at + width] for at in range(0, len(text), width))
    shown = Redactor([secret]).text(text).replace("***", "").split("\n")
    hidden = base64.b64encode(secret.encode()).decode()
    # What is left of a line is less than four bytes of the secret.
    assert not [line for line in shown if len(line) >= 7 and line[:7] in hidden]


def test_overlapping_secrets_leave_no_rest():
    assert Redactor(["abcdef", "defghi"]).text("1abcdefghi2") == "1***2"


def test_a_value_of_two_characters_is_not_a_secret():
    assert Redactor(["ab", ""]).text("abc") == "abc"


def test_each_line_of_a_multi_line_secret_is_masked():
    assert Redactor(["first line\nsecond line\n"]).text("x second line y") == "x *** y"


def test_percent_encoding_and_nested_values_are_masked():
    redactor = Redactor(["p@ss word"])
    assert redactor.text("u:p%40ss%20word@h") == "u:***@h"
    assert redactor.value({"k": ["p@ss word", 1, None]}) == {"k": ["***", 1, None]}


@given(st.text("ab", min_size=3, max_size=7), st.text("abc", max_size=60))
def test_the_union_of_all_occurrences_is_masked(secret, text):
    """Against the plainest way to say it: each byte of each occurrence."""
    hidden = set()
    for at in range(len(text)):
        if text.startswith(secret, at):
            hidden |= set(range(at, at + len(secret)))
    shown = "".join(c for at, c in enumerate(text) if at not in hidden)
    masked = b"".join(
        text.encode()[stop:start]
        for stop, start in zip(
            [0, *(end for _, end in _spans(text.encode(), secret.encode()))],
            [*(begin for begin, _ in _spans(text.encode(), secret.encode())), len(text)],
            strict=True,
        )
    )
    assert masked.decode() == shown
