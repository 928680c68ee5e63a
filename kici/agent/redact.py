"""Masks secret values in everything an agent says (agent spec 6.7, A93).

A value hides as itself, line by line when it has several, in base64 (also inside a longer
text, so at each of the three alignments, and in lines), URL-safe base64 and percent-encoding.
"""

import base64
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

MASK = "***"
#: Shorter values would mask ordinary text (6.7).
MIN_LENGTH = 3
#: A piece of base64 this short says little and matches too much.
_MIN_BASE64 = 6
#: Characters of a line, as ``base64`` and ``openssl base64`` write them.
_LINES = (76, 64)


class Redactor:
    """Owns: the byte patterns of one job's secrets; they leave with it.

    ``longest`` is the length of the longest pattern in bytes: a cut inside a line must
    hold back that much, or a secret could straddle it.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        forms: set[bytes] = set()
        for secret in secrets:
            forms |= _forms(secret)
        self._patterns = sorted(forms, key=len, reverse=True)
        self.longest = len(self._patterns[0]) if self._patterns else 0

    def mask(self, data: bytes) -> bytes:
        # A plain search for each pattern is several times faster than one regular
        # expression of many alternatives, and most blocks hold no secret at all.
        present = [pattern for pattern in self._patterns if pattern in data]
        return _cover(data, present) if present else data

    def text(self, text: str) -> str:
        if not self._patterns:
            return text
        return self.mask(text.encode("utf-8", "surrogateescape")).decode("utf-8", "replace")

    def value(self, value: Any) -> Any:
        """``value`` with every string in it masked, keys included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return value


def _forms(secret: str) -> set[bytes]:
    whole = secret.encode("utf-8", "surrogateescape")
    parts = {whole, whole.strip(), *(line.strip() for line in whole.splitlines())}
    forms: set[bytes] = set()
    for part in parts:
        if len(part) < MIN_LENGTH:
            continue
        forms.add(part)
        forms.add(quote(part, safe="").encode())
        forms |= _base64_forms(part)
    for value in (whole, whole.strip()):
        forms |= _base64_lines(base64.b64encode(value), len(value) * 8 // 6)
    return forms


def _base64_forms(part: bytes) -> set[bytes]:
    forms = {base64.b64encode(part), base64.urlsafe_b64encode(part)}
    for shift in range(3):
        n_bits = 8 * (shift + len(part))
        # Only the characters that hold nothing but bits of the secret.
        first, last = -(-8 * shift // 6), n_bits // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            inner = encode(b"\0" * shift + part)[first:last]
            if len(inner) >= _MIN_BASE64:
                forms.add(inner)
    return forms


def _base64_lines(whole: bytes, n_certain: int) -> set[bytes]:
    """What each line of ``whole`` holds; behind ``n_certain`` characters another text may
    follow in place of the padding."""
    lines: set[bytes] = set()
    for size in _LINES:
        for text in (whole, whole[:n_certain]) if len(whole) > size else ():
            lines.update(text[at : at + size] for at in range(0, len(text), size))
    return {line for line in lines if len(line) >= _MIN_BASE64}


def _spans(data: bytes, pattern: bytes) -> Iterator[tuple[int, int]]:
    """What the occurrences of ``pattern`` cover. Those that overlap are leapt over from the
    first to the last that it reaches: ``aaaa`` in a megabyte of ``a`` is one span, not a
    million."""
    size = len(pattern)
    begin = data.find(pattern)
    while begin >= 0:
        last = begin
        while (reached := data.rfind(pattern, last + 1, last + 2 * size - 1)) >= 0:
            last = reached
        yield begin, last + size
        begin = data.find(pattern, last + size)


def _cover(data: bytes, patterns: list[bytes]) -> bytes:
    """Replace the union of all occurrences, so that overlapping secrets leave no rest."""
    spans: list[tuple[int, int]] = []
    for pattern in patterns:
        spans += _spans(data, pattern)
    spans.sort()
    out: list[bytes] = []
    end = 0
    for start, stop in spans:
        if start >= end:
            out += [data[end:start], MASK.encode()]
        end = max(end, stop)
    out.append(data[end:])
    return b"".join(out)
