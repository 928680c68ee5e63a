"""Coordinator URLs (worker surface 2.4, peer spec 1.1).

The configured text itself, unmodified, is the key of ownership; these functions derive what
is dialled and what tells two spellings of one place apart from two places.
"""

import ipaddress
from urllib.parse import SplitResult, urlsplit

PEER_PATH = "/ws/peer"
_SCHEMES = {"ws": "ws", "http": "ws", "wss": "wss", "https": "wss"}
_PORTS = {"ws": 80, "wss": 443}


def _split(configured: str) -> SplitResult:
    try:
        parts = urlsplit(configured.strip())
        port = parts.port
    except ValueError as error:
        raise ValueError(f"not a URL: {error}") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError("must begin with ws://, wss://, http:// or https://")
    if not parts.hostname or any(character.isspace() for character in configured.strip()):
        raise ValueError("names no host")
    if port == 0:
        raise ValueError("port must be 1 to 65535")
    return parts


def peer_url(configured: str) -> str:
    """What to dial for ``configured``; ``ValueError`` whose text says what is wrong.

    ``https`` means TLS; a trailing slash is harmless; ``/ws/peer`` is added once; a query is
    kept and a fragment dropped.
    """
    parts = _split(configured)
    path = parts.path.rstrip("/")
    if not path.endswith(PEER_PATH):
        path += PEER_PATH
    query = f"?{parts.query}" if parts.query else ""
    return f"{_SCHEMES[parts.scheme]}://{parts.netloc}{path}{query}"


def spelling_key(configured: str) -> str:
    """Equal for spellings of one place: scheme family, host case, default port, path end.

    Text that is no URL is its own key.
    """
    try:
        parts = urlsplit(peer_url(configured))
    except ValueError:
        return configured
    port = parts.port or _PORTS[parts.scheme]
    return f"{parts.scheme}://{parts.hostname}:{port}{parts.path}"


def shown_url(configured: str) -> str:
    """``configured`` without user name and password, for logs and pages."""
    head, separator, rest = configured.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{head}{separator}{authority.rpartition('@')[2]}{slash}{path}"


def is_exposed(configured: str) -> bool:
    """True when the link would leave this machine without TLS (peer spec 2.6)."""
    try:
        parts = urlsplit(peer_url(configured))
    except ValueError:
        return False
    host = parts.hostname or ""
    if parts.scheme == "wss" or host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True
