"""What a client may say with a drain: a reason and a deadline, as JSON or as a form."""

import math
import re
from collections.abc import Mapping
from typing import Any

from flask import Request

#: Shown on the page and in logs; longer is cut.
MAX_REASON_CHARS = 200
#: A week: longer than any job.
MAX_DEADLINE_S = 7 * 86400.0
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", re.IGNORECASE)
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class BadWish(ValueError):
    """A field is understood and impossible."""


def wish_fields(request: Request) -> Mapping[str, Any]:
    """The fields of a JSON object or a form; nothing for any other body."""
    if request.mimetype == "application/json":
        body = request.get_json(silent=True)
        return body if isinstance(body, dict) else {}
    return request.form


def drain_wish(fields: Mapping[str, Any]) -> tuple[str, float | None]:
    """``(reason, deadline in seconds or None)``; ``BadWish`` says what is wrong."""
    reason = fields.get("reason") or ""
    if not isinstance(reason, str):
        raise BadWish("reason: expected text")
    printable = "".join(c if c.isprintable() else " " for c in reason)
    deadline = fields.get("deadline")
    return printable.strip()[:MAX_REASON_CHARS], None if deadline in (None, "") else seconds(
        deadline
    )


def seconds(value: Any) -> float:
    """``30m``, ``1.5h``, ``90`` or a number, in seconds."""
    found = _DURATION.fullmatch(str(value).strip())
    if not found or isinstance(value, bool):
        raise BadWish("deadline: expected a duration such as 90, 30m or 2h")
    result = float(found[1]) * _UNIT_S[(found[2] or "s").lower()]
    if not math.isfinite(result) or not 0 < result <= MAX_DEADLINE_S:
        raise BadWish("deadline: expected more than 0 and at most 7 days")
    return result
