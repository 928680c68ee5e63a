"""The unit grammar of ``scalers.yaml`` (scaler spec 1.4) and of ``hostAccess`` (7.1)."""

import re
from fractions import Fraction
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError

_MEMORY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgKMG])")
_MULTIPLIER = {"k": 2**10, "m": 2**20, "g": 2**30}
#: Keeps a page of digits from becoming a number.
_MAX_CHARS = 32
#: No machine has more; what is larger does not fit the numbers of links and engines.
MAX_MEMORY_BYTES = 2**50


def memory_bytes(text: str) -> int:
    """``512m``, ``1.5g``, ``2 g`` in bytes, floored. Raises ``ValueError`` without a text, also
    beyond ``MAX_MEMORY_BYTES``."""
    match = _MEMORY.fullmatch(text) if len(text) <= _MAX_CHARS else None
    if match is None:
        raise ValueError
    n_bytes = int(Fraction(match[1]) * _MULTIPLIER[match[2].lower()])
    if n_bytes > MAX_MEMORY_BYTES:
        raise ValueError
    return n_bytes


def is_host_access(rule: str) -> bool:
    """``<target>[:<port>]`` with an IPv4 address, IPv4 CIDR or ``*``; or a bare port."""
    if rule.isascii() and rule.isdigit():
        return _is_port(rule)
    target, separator, port = rule.partition(":")
    return _is_target(target) and (not separator or port == "*" or _is_port(port))


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535


def _is_target(text: str) -> bool:
    if text == "*":
        return True
    try:
        if "/" in text:
            address, _, prefix = text.partition("/")
            if not prefix.isascii():
                return False
            IPv4Network((address, int(prefix)), strict=False)
        else:
            IPv4Address(text)
    except (AddressValueError, NetmaskValueError, ValueError):
        return False
    return True
