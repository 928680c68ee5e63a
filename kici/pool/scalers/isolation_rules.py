"""nft rules of one agent's address, as text (scaler spec 3.2, 7.4; S112). Pure."""

import ipaddress
import re
from collections.abc import Iterable

from kici.config.model import NetworkPolicy

GATEWAY = "172.30.0.1"
SUBNET = "172.30.0.0/16"
TABLE = "ip kici"
#: Private and link-local (cloud metadata) destinations.
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16")
_DNS_PORT = 53
#: ``ip saddr A … # handle N``, as ``nft -a list chain`` prints it.
_RULE = re.compile(r"\bip saddr (\d+\.\d+\.\d+\.\d+)[\s\"].*# handle (\d+)\s*$")


class BadPolicy(Exception):
    """A network policy that cannot be turned into rules."""


def base() -> str:
    """The table and its chains; harmless when they exist."""
    hooks = "\n".join(
        f"add chain {TABLE} {hook} {{ type filter hook {hook} priority 0; policy accept; }}"
        for hook in ("forward", "output", "input")
    )
    return f"add table {TABLE}\n{hooks}\n"


def rules(address: str, policy: NetworkPolicy | None, dial_back_port: int | None) -> str:
    """One transaction: nothing or all of it holds. A packet sees the rules in this order."""
    policy = policy or NetworkPolicy()
    source = f"ip saddr {_ipv4(address)}"
    forward = [f"ip daddr {GATEWAY} accept"]
    forward += [f"ip daddr {_network(entry)} accept" for entry in policy.allowlist]
    forward += [f"ip daddr {network} drop" for network in PRIVATE]
    if policy.deny_all:
        forward.append("drop")
    # Inserted at the head, last one first: rules of other addresses cannot come between.
    lines = [f"insert rule {TABLE} forward {source} {rule}" for rule in reversed(forward)]
    incoming = _incoming(policy, dial_back_port)
    lines += [f"insert rule {TABLE} input {source} {rule}" for rule in reversed(incoming)]
    return "\n".join(lines) + "\n"


def _incoming(policy: NetworkPolicy, dial_back_port: int | None) -> list[str]:
    """What the agent may reach on this host itself: an explicit list replaces the default,
    which is DNS on the gateway and the worker's own port."""
    allowed = ["ct state established,related accept"]
    if policy.host_access is None and not policy.host_access_rules:
        allowed += _host_entry(GATEWAY, str(_DNS_PORT))
        if dial_back_port is not None:
            allowed += _host_entry("*", str(dial_back_port))
    for rule in policy.host_access_rules:
        target, _colon, port = rule.partition(":")
        if not port and target.isdigit():
            target, port = "*", target
        allowed += _host_entry(target, port or "*")
    return [*allowed, "drop"]


def _host_entry(target: str, port: str) -> list[str]:
    where = "" if target == "*" else f"ip daddr {_network(target)} "
    if port == "*":
        return [f"{where}accept"]
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise BadPolicy(f"hostAccess: {port!r} is no port")
    return [f"{where}tcp dport {port} accept", f"{where}udp dport {port} accept"]


def handles(listing: str, address: str | None = None, keep: Iterable[str] = ()) -> list[int]:
    """Handles of the rules of ``address``, or of all addresses of our subnet but ``keep``,
    the highest first."""
    kept = set(keep)
    found = []
    for line in listing.splitlines():
        rule = _RULE.search(line)
        if rule is None:
            continue
        ours = rule[1] == address if address is not None else rule[1] not in kept
        if ours and (address is not None or _in_subnet(rule[1])):
            found.append(int(rule[2]))
    return sorted(found, reverse=True)


def _in_subnet(address: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(SUBNET)


def _ipv4(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise BadPolicy(f"container address {text!r} is no IPv4 address") from None


def _network(text: str) -> str:
    try:
        return str(ipaddress.IPv4Network(text, strict=False))
    except ValueError:
        raise BadPolicy(f"networkPolicy: {text!r} is no IPv4 address or network") from None
