"""How deep JSON data is nested: coders use the stack, and each process has another one left."""

from typing import Any

#: Deeper data of others is not passed on. Every coder here can do about 900.
MAX_DEPTH = 100


def is_too_deep(data: Any, limit: int = MAX_DEPTH) -> bool:
    """True when arrays and objects are within each other more than ``limit`` times."""
    level, depth = [data], 0
    while level and depth <= limit:
        values = [one.values() if isinstance(one, dict) else one for one in level]
        level = [inner for one in values for inner in one if isinstance(inner, dict | list)]
        depth += 1
    return bool(level)


def may_be_deep(text: bytes, limit: int = MAX_DEPTH) -> bool:
    """False when ``text`` cannot hold such data: far cheaper than to look."""
    return text.count(b"[") + text.count(b"{") > limit
