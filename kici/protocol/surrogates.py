"""Halves of UTF-16 pairs in JSON. JavaScript cuts strings between the two and writes the half
that is left; our decoder refuses the whole message for it."""

import re

#: One JSON escape: a whole surrogate pair, a lone half (group 1), or anything else.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def mended(frame: bytes | str) -> bytes:
    """The JSON in ``frame`` with U+FFFD for each lone half; cheap when it has no such escape."""
    text = frame.encode("utf-8", "replace") if isinstance(frame, str) else frame
    if b"\\ud" not in text and b"\\uD" not in text:
        return text
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], text)
