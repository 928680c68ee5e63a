"""Log bundles asked of agents (agent spec 2.1.14, 2.2.23; A84, A85). No IO."""

import base64
import binascii

from kici.contracts.wire.agent.services import FleetBundleChunk, FleetBundleError

#: Agent-side time limit and size of one bundle.
BUNDLE_TIMEOUT_S = 60.0
MAX_BUNDLE_BYTES = 50 * 2**20


class BundleFailed(Exception):
    """No bundle; the text says why."""


class Bundle:
    """Owns: the pieces of one bundle. ``add`` returns True when it is complete."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._n_bytes = 0

    def add(self, message: FleetBundleChunk | FleetBundleError) -> bool:
        """The next piece; ``BundleFailed`` for an error, a gap, bad data or too much."""
        if isinstance(message, FleetBundleError):
            raise BundleFailed(message.message)
        if message.seq != len(self._parts):
            raise BundleFailed(f"chunk {message.seq} came in place of {len(self._parts)}")
        try:
            part = base64.b64decode(message.data_b64, validate=True)
        except (binascii.Error, ValueError):
            raise BundleFailed(f"chunk {message.seq} is not base64") from None
        self._n_bytes += len(part)
        if self._n_bytes > MAX_BUNDLE_BYTES:
            raise BundleFailed(f"bundle is above {MAX_BUNDLE_BYTES} bytes")
        self._parts.append(part)
        return message.is_last

    def content(self) -> bytes:
        return b"".join(self._parts)
