"""The pieces of a log bundle, received in order and bounded (agent spec 2.2.23, peer 4.19)."""

import base64
import binascii

#: Raw bytes of one piece, as the reference cuts them; any size is taken.
PIECE_BYTES = 87_040
#: Raw log bytes that one node puts into its bundle, and the size of an agent's bundle.
MAX_LOG_BYTES = 50 * 2**20


class BundleFailed(Exception):
    """No bundle; the text says why. ``status`` is a word of the fleet manifest."""

    def __init__(self, text: str, status: str = "error") -> None:
        super().__init__(text)
        self.status = status


class BundlePieces:
    """Owns: which piece comes next and how much came."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._next = 0
        self.n_bytes = 0

    def take(self, seq: int, data_b64: str) -> bytes:
        """The data of the next piece; ``BundleFailed`` for a gap, bad data or too much."""
        if seq != self._next:
            raise BundleFailed(f"chunk {seq} came in place of {self._next}")
        if len(data_b64) > (self._max_bytes - self.n_bytes) * 2 + 4:
            raise BundleFailed(f"bundle is above {self._max_bytes} bytes")
        try:
            data = base64.b64decode(data_b64, validate=True)
        except (binascii.Error, ValueError):
            raise BundleFailed(f"chunk {seq} is not base64") from None
        self._next += 1
        self.n_bytes += len(data)
        if self.n_bytes > self._max_bytes:
            raise BundleFailed(f"bundle is above {self._max_bytes} bytes")
        return data


def encoded(piece: bytes) -> str:
    """A piece as it goes on the wire."""
    return base64.b64encode(piece).decode("ascii")
