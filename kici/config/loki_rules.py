"""What can never be sent to Loki, found when the configuration is read.

Found later it would only stop the shipper, hours after the start, in a process of its own.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from kici.config.places import waits_for_nobody
from kici.errors import Problem

_URL = "KICI_LOKI_URL"
_PRINTABLE = re.compile(r"[ -~]*")


def check_loki(values: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[Problem]:
    """Problems of ``values`` (fields by name, secrets already read from their files)."""
    if "loki_url" not in values:
        return
    yield from _url(values["loki_url"])
    yield from _header("KICI_LOKI_TENANT", values.get("loki_tenant", ""))
    if token := values.get("loki_token"):
        yield from _header(_source("KICI_LOKI_TOKEN", environ), token.reveal())
    yield from _pair("loki_user" in values, "loki_password" in values, environ)
    if path := values.get("loki_ca_file"):
        yield from _certificates(path)


def _url(url: str) -> Iterator[Problem]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if "@" in parts.netloc:
        beside = "KICI_LOKI_USER and KICI_LOKI_PASSWORD (or KICI_LOKI_PASSWORD_FILE)"
        yield Problem(_URL, f"expected no user name in the URL but {beside}, found one")
    if not _PRINTABLE.fullmatch(parts.path):
        yield Problem(_URL, f"expected a path in printable ASCII, found {parts.path!r}")
    try:
        host.encode("idna")  # as every look-up of a name does
    except UnicodeError:
        yield Problem(_URL, f"expected a host's name or address, found {host!r}")


def _header(where: str, value: str) -> Iterator[Problem]:
    """``value`` may be a secret: only the place of what is wrong in it is told."""
    good = _PRINTABLE.match(value)
    if good and good.end() < len(value):
        what = f"another character at place {good.end() + 1} of {len(value)}"
        yield Problem(where, f"expected printable ASCII, found {what}")


def _pair(user: bool, password: bool, environ: Mapping[str, str]) -> Iterator[Problem]:
    # A password's file that could not be read is a problem already.
    password = password or bool(environ.get("KICI_LOKI_PASSWORD_FILE", "").strip())
    if user and not password:
        beside = "KICI_LOKI_PASSWORD or KICI_LOKI_PASSWORD_FILE"
        yield Problem("KICI_LOKI_USER", f"expected {beside} beside it, found neither")
    if password and not user:
        where = _source("KICI_LOKI_PASSWORD", environ)
        yield Problem(where, "expected KICI_LOKI_USER beside it, found none")


def _source(name: str, environ: Mapping[str, str]) -> str:
    """The variable that a secret came by: its own, or that of its file."""
    return name if environ.get(name, "").strip() else f"{name}_FILE"


def _certificates(path: str) -> Iterator[Problem]:
    import ssl

    where, expected = "KICI_LOKI_CA_FILE", f"expected PEM certificates in {path}, found"
    if not waits_for_nobody(path):
        yield Problem(where, f"{expected} no regular file")
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        yield Problem(where, f"{expected} something else ({error.reason or 'not PEM'})")
    except OSError as error:
        yield Problem(where, f"{expected}: {error.strerror or error}")
