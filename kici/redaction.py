"""Makes secrets in text and log fields unreadable (worker-surface spec 5.3, W145).

Known by form: agent tokens, join tokens, 64-hex credentials, user-info of URLs, the value
of an authorization header. Known by name: fields like ``token`` or ``password``.
"""

import re
from typing import Any

MASK = "***"

# A digest is no secret, and ``sha256:`` in front says that it is one.
_HEX64 = r"(?<!sha256:)(?<![0-9A-Za-z])[0-9a-fA-F]{64}(?![0-9A-Za-z])"
_PATTERN = re.compile(
    r"(?P<agent>kat_)[0-9A-Za-z_-]+"
    r"|(?P<join>kici_join_v\d+)\.[\w.~+/=-]+"
    r"|(?P<url>://)[^/\s\"'<>]+@"
    # The scheme is kept: it is what one looks for in a log.
    r"|(?P<header>(?i:(?:proxy-)?authorization)(?:\\?[\"'])?\s*[:=]\s*(?:\\?[\"'])?"
    r"(?:(?i:bearer|basic|token|digest)\s+)?)[^\s\"'\\,;}&]+"
    r"|(?P<bearer>(?i:bearer)\s+)(?!token\b)[\w.~+/=-]{8,}"
    rf"|{_HEX64}"
)
_HEX_RUN = re.compile(r"[0-9a-fA-F]{64}")
_SECRET_NAMES = re.compile(
    r"(?i)(?:^|[_.-])(?:token|password|passwd|secret|credential|authorization|cookie"
    r"|api_?key|private_?key)$|(?:Token|Password|Secret|Credential|ApiKey|PrivateKey)$"
)


def redact(text: str) -> str:
    """``text`` with every secret of a known form masked; cheap when there is none."""
    if not (
        "kat_" in text
        or "kici_join" in text
        or "@" in text
        or "earer" in text
        or "BEARER" in text
        or "uthorization" in text
        or "AUTHORIZATION" in text
        or (len(text) >= 64 and _HEX_RUN.search(text))
    ):
        return text
    return _PATTERN.sub(_mask, text)


def _mask(match: re.Match[str]) -> str:
    kept = match[match.lastgroup] if match.lastgroup else ""
    separator = "." if match.lastgroup == "join" else ""
    return kept + separator + MASK + ("@" if match.lastgroup == "url" else "")


def is_secret_name(name: str) -> bool:
    """True for a field whose value must not be shown whatever it is."""
    return _SECRET_NAMES.search(name) is not None


def plain(value: Any, depth: int = 4) -> Any:
    """``value`` as plain JSON data: what has a form of its own is shown by ``str``.

    Never the fields of an object: a struct with a ``Secret`` in it would be spelled out.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if depth == 0:
        return "…"
    if isinstance(value, dict):
        return {
            str(key): MASK if is_secret_name(str(key)) else plain(item, depth - 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth - 1) for item in value]
    return str(value)
