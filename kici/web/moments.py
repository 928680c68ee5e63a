"""How the surface writes moments."""

import time


def iso(seconds: float | None) -> str | None:
    """Wall-clock seconds as ISO 8601 UTC with milliseconds."""
    if seconds is None:
        return None
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{milliseconds:03d}Z"
