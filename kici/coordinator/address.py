"""Whose connection it is, behind proxies that we trust and no others (1.7, C16). Pure."""

import ipaddress
from collections.abc import Sequence

from kici.coordinator.settings import Network

UNKNOWN = "unknown"


def client_address(
    remote: str, headers: Sequence[tuple[str, str]], trusted: Sequence[Network]
) -> str:
    """``remote`` (``host:port``, brackets or not), or what a trusted proxy says instead:
    ``X-Real-IP``, else the first element of ``X-Forwarded-For``."""
    address = _host(remote)
    if not _is_trusted(address, trusted):
        return address
    told = {name.lower(): value for name, value in headers}
    said = told.get("x-real-ip") or told.get("x-forwarded-for", "").split(",")[0]
    return said.strip() or address


def _host(remote: str) -> str:
    host = remote.rpartition(":")[0]
    return host.strip("[]").removeprefix("::ffff:") or UNKNOWN


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(ip in network for network in trusted if network.version == ip.version)
