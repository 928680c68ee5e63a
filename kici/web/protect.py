"""Who may do what: Host allow-list, cross-site refusal, admin token, rate, headers.

Pure decisions on strings; ``door.py`` and ``app.py`` put them in front of every request.
"""

import hmac
import ipaddress
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

#: Sent with every answer. Styles and scripts are files of ours, never inline.
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: forms of the page itself would then say "Origin: null".
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
#: Names that no stranger can register: the point of the list is DNS rebinding.
_LOCAL_SUFFIXES = (".localhost", ".local", ".home.arpa", ".internal")
#: Writes a client may send at once, and how fast that refills.
BURST = 20
PER_S = 1.0


def host_of(header: str) -> str:
    """The name in a Host header, lower case, without port and trailing dot."""
    try:
        return (urlsplit(f"//{header}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def host_allowed(header: str | None, own: Sequence[str]) -> bool:
    """True for addresses, names that only this network can give, and ``own`` names.

    A rebinding attack needs a public name that the attacker controls; names without a dot
    and those of private suffixes cannot be that.
    """
    if header is None:
        return True  # HTTP/1.0: no browser sends that
    host = host_of(header)
    if not host:
        return False
    try:
        ipaddress.ip_address(host.partition("%")[0])
        return True
    except ValueError:
        pass
    return "." not in host or host.endswith(_LOCAL_SUFFIXES) or host in own


def same_site(headers: Mapping[str, str], own: Sequence[str]) -> bool:
    """False when a browser says that another site made it send this request."""
    if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return False
    origin = headers.get("Origin")
    if origin is None:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:  # no browser of anybody's page writes that
        return False
    return parts.netloc.lower() == headers.get("Host", "").lower() or (parts.hostname or "") in own


def token_matches(expected: str, authorization: str | None, form_token: str | None) -> bool:
    """Bearer header, or the field of the page's form (a page without JavaScript)."""
    given = form_token or ""
    if authorization and authorization[:7].lower() == "bearer ":
        given = authorization[7:].strip()
    return hmac.compare_digest(expected.encode(), given.encode())


class Bucket:
    """Writes of all clients together; a worker is told to drain a few times a day."""

    def __init__(self) -> None:
        self._left = float(BURST)
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """False when there were too many lately. ``now``: monotonic seconds."""
        if self._at is not None:
            self._left = min(float(BURST), self._left + (now - self._at) * PER_S)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
