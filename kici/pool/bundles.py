"""Log bundles asked of agents (agent spec 2.1.14, 2.2.23; A84, A85)."""

from typing import BinaryIO

from kici.contracts.wire.agent.services import FleetBundleChunk, FleetBundleError
from kici.protocol.bundle_pieces import MAX_LOG_BYTES, BundleFailed, BundlePieces

#: Agent-side time limit and size of one bundle.
BUNDLE_TIMEOUT_S = 60.0
MAX_BUNDLE_BYTES = MAX_LOG_BYTES
#: What an agent says of its own failure may be long.
_MAX_REASON = 300


class Budget:
    """Owns: how many bytes the bundles of one request may still have together."""

    def __init__(self, n_bytes: int) -> None:
        self._left = n_bytes

    def take(self, n_bytes: int) -> None:
        if n_bytes > self._left:
            raise BundleFailed("the bundles of all agents together are too large")
        self._left -= n_bytes


class Bundle:
    """Owns: the bundle of one agent, piece by piece into ``sink``. ``add`` returns True when
    it is complete."""

    def __init__(self, sink: BinaryIO, budget: Budget) -> None:
        self._sink = sink
        self._budget = budget
        self._pieces = BundlePieces(MAX_BUNDLE_BYTES)

    @property
    def n_bytes(self) -> int:
        return self._pieces.n_bytes

    def add(self, message: FleetBundleChunk | FleetBundleError) -> bool:
        """The next piece; ``BundleFailed`` for an error, a gap, bad data or too much."""
        if isinstance(message, FleetBundleError):
            raise BundleFailed(message.message[:_MAX_REASON])
        data = self._pieces.take(message.seq, message.data_b64)
        self._budget.take(len(data))
        try:
            self._sink.write(data)
        except OSError as error:  # a full disk is no reason to lose the agent
            raise BundleFailed(f"cannot be kept: {error.strerror}") from None
        return message.is_last
