"""The text of a join token (peer spec 2.1). Pure."""

import base64
import json

#: Beyond what SQLite can compare.
MAX_INTEGER = 2**63


def token_text(org_id: str, routing_key: str, expiry: int, role: str, secret: bytes) -> str:
    """A token as its owner gets it. SECRET."""
    routing = {"orgId": org_id, "routingKey": routing_key, "expiry": expiry, "role": role}
    text = json.dumps(routing, separators=(",", ":")).encode()
    encoded = base64.urlsafe_b64encode(text).rstrip(b"=").decode()
    return f"kici_join_v1.{encoded}.{secret.hex()}"


def triple(routing: str) -> tuple[str, str, int] | None:
    """Organization, routing key and expiry in a token's second part, which a stranger wrote;
    None for what no row can equal."""
    try:
        padded = routing.encode("ascii") + b"=" * (-len(routing) % 4)
        read = json.loads(base64.urlsafe_b64decode(padded))
        org_id, routing_key, expiry = read["orgId"], read["routingKey"], int(read["expiry"])
        for name in (org_id, routing_key):
            name.encode()  # JSON can write halves of characters, which SQLite cannot take
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    return (org_id, routing_key, expiry) if abs(expiry) < MAX_INTEGER else None
