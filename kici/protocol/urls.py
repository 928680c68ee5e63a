"""URLs of coordinators (worker surface 2.4, peer spec 1.1).

The configured text itself, unmodified, is the key of ownership and of the outbox; these
functions check it and derive what is dialled, shown and compared.
"""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit, urlunsplit

PEER_PATH = "/ws/peer"
#: Schemes of the input and what is dialled. The reference dials ``https`` without TLS.
_SCHEMES = {"ws": "ws", "http": "ws", "wss": "wss", "https": "wss"}
_PORTS = {"ws": 80, "wss": 443}
_USER_INFO = re.compile(r"(?:(?<=//)|\A(?![^/\s]*//))[^/\s]*@")


def shown_url(url: str) -> str:
    """``url`` without user name, password and query, for logs, pages and errors."""
    shown, query, _ = _USER_INFO.sub("", url).partition("?")
    return shown + ("?***" if query else "")


def check_url(url: str, schemes: tuple[str, ...]) -> str:
    """Return ``url``; raise ``ValueError`` when it is none, or of another scheme."""
    expected = f"expected a URL {' or '.join(scheme + '://host[:port]' for scheme in schemes)}"
    wrong = ValueError(f"{expected}, found {shown_url(url)!r}")
    if re.search(r"[\s\x00-\x1f]", url):
        raise wrong
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme.lower() not in schemes or not parts.hostname or port == 0:
        raise wrong
    return url


def check_coordinator_url(url: str) -> str:
    """Return ``url``; raise ``ValueError`` for what can never be dialled (W33)."""
    return check_url(url, tuple(_SCHEMES))


def peer_url(configured: str) -> str:
    """What to dial for ``configured``; ``ValueError`` whose text says what is wrong.

    ``https`` means TLS; a trailing slash is harmless; ``/ws/peer`` is added once; a query is
    kept and a fragment dropped.
    """
    parts = urlsplit(check_coordinator_url(configured.strip()))
    path = parts.path.rstrip("/")
    if not path.endswith(PEER_PATH):
        path += PEER_PATH
    return urlunsplit(SplitResult(_SCHEMES[parts.scheme], parts.netloc, path, parts.query, ""))


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
