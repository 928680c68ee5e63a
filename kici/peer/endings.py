"""What the ends of a coordinator's connections say together, in words for an operator."""

from kici.peer.seam import Ending

SUPERSEDED = "Superseded"
NO_METHOD = "No auth method"


class Endings:
    """Owns: whether somebody else was seen to take this coordinator's link from us.

    A coordinator closes the older of two connections of one instance id (3.10). We never
    have two with one URL, so it was another worker, or another URL of ours.
    """

    def __init__(self, instance_id: str, n_urls: int) -> None:
        self._other = f"another worker uses the instance id {instance_id}"
        self._or_url = " (or two of our URLs lead to one coordinator)" if n_urls > 1 else ""
        self._superseded = False

    @property
    def superseded(self) -> bool:
        """The last accepted connection was taken from us."""
        return self._superseded

    def explain(self, ending: Ending, refused: str | None) -> str:
        """The reason that is shown; ``refused`` is why the coordinator refused our last
        credential, which is then gone."""
        if ending.accepted:
            self._superseded = ending.code == 4001 and ending.reason == SUPERSEDED
        if not ending.code:
            return ending.reason
        text = f"closed with {ending.code} {ending.reason}".rstrip()
        if ending.code == 4005 and "Unsupported protocol version" not in ending.reason:
            return text + " (Unsupported protocol version)"
        if ending.accepted and self._superseded:
            return f"{text}: {self._other}{self._or_url}"
        if ending.code == 1000 and ending.reason == NO_METHOD:
            return f"{text}: {self._why_none(refused)}"
        return text

    def _why_none(self, refused: str | None) -> str:
        if refused is None:
            return "no credential file and no join token"
        text = f"no join token, and the credential was refused ({refused}): "
        return text + (self._other if self._superseded else f"it was revoked, or {self._other}")
