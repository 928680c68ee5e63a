"""The socketpairs that join our processes (docs/architecture.md).

Made before the first fork and kept by the supervisor with both ends, so that a restarted
child finds the same link and its neighbours notice only a new ``boot_id``. Control links
are made anew for each start: what an old child had not read must not reach the new one.
"""

import socket
from itertools import combinations

from kici.contracts.states import ChildName
from kici.shell.link import socketpair

CHILDREN = (ChildName.PEER, ChildName.POOL, ChildName.WEB)


class ChildLinks:
    """Owns: both ends of the links between children."""

    def __init__(self) -> None:
        self._ends: dict[ChildName, dict[str, socket.socket]] = {name: {} for name in CHILDREN}
        for one, other in combinations(CHILDREN, 2):
            self._ends[one][other], self._ends[other][one] = socketpair()

    def fds_of(self, name: ChildName) -> dict[str, int]:
        """Neighbour -> descriptor of the end that belongs to ``name``."""
        return {neighbour: end.fileno() for neighbour, end in self._ends[name].items()}

    def close(self) -> None:
        for ends in self._ends.values():
            for end in ends.values():
                end.close()
