"""What a coordinator URL must look like, and what is dialled for it (worker-surface 2.4).

The text as configured stays the key of ownership and of the outbox; only ``dial_url``
transforms it.
"""

import re
from urllib.parse import SplitResult, urlsplit, urlunsplit

PEER_PATH = "/ws/peer"
#: Schemes of the input and what is dialled. The reference dials ``https`` without TLS.
_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
_USER_INFO = re.compile(r"(?<=://)[^/@\s]*@")


def without_user_info(url: str) -> str:
    """``url`` fit for logs and errors."""
    return _USER_INFO.sub("***@", url)


def check_url(url: str, schemes: tuple[str, ...]) -> str:
    """Return ``url``; raise ``ValueError`` when it is none, or of another scheme."""
    expected = f"expected a URL {' or '.join(scheme + '://host[:port]' for scheme in schemes)}"
    wrong = ValueError(f"{expected}, found {without_user_info(url)!r}")
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


def dial_url(url: str) -> str:
    """The URL to dial: ``ws``/``wss``, ending in ``/ws/peer``, query kept, fragment dropped.

    ``url`` is one that ``check_coordinator_url`` accepted.
    """
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if not path.endswith(PEER_PATH):
        path += PEER_PATH
    scheme = _SCHEMES[parts.scheme.lower()]
    return urlunsplit(SplitResult(scheme, parts.netloc, path, parts.query, ""))
