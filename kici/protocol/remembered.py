"""Which keys were seen lately, in little memory that does not grow."""

from collections.abc import Hashable

#: Keys of one generation. Just below the size at which a set of Python's takes four times the
#: memory; two generations take about 0.6 MiB, where 10,000 keys themselves took 4.
GENERATION = 4900


class Remembered:
    """Owns: the last ``generation`` keys or more, never twice as many.

    Only hashes are kept (64 bits, seeded at random by each start of Python): a key that was
    never added is taken for one that was in 10,000 of 2^64 cases. Both sets keep their size
    once they had it; a dictionary whose first entry is deleted each time walks over ever more
    holes instead.
    """

    def __init__(self, generation: int = GENERATION) -> None:
        self._generation = generation
        self._young: set[int] = set()
        self._old: set[int] = set()

    def __contains__(self, key: Hashable) -> bool:
        seen = hash(key)
        return seen in self._young or seen in self._old

    def add(self, key: Hashable) -> None:
        self._young.add(hash(key))
        if len(self._young) >= self._generation:
            self._old, self._young = self._young, set()

    def discard(self, key: Hashable) -> None:
        """``key`` counts as never seen."""
        seen = hash(key)
        self._young.discard(seen)
        self._old.discard(seen)
