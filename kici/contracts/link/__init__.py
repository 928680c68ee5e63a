"""Messages between our own processes (docs/architecture.md).

msgpack on message-preserving socketpairs. Facts are in the past or a state, orders are
imperative, wishes end in ``.request``. An unknown field is a bug of ours, so it raises.
"""

import msgspec


class Message(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="type",
):
    """Base of every link message; ``tag`` is ``noun.verb``."""


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of records inside link messages."""


class JobKey(Row, frozen=True, kw_only=True, order=True):
    """What names a job everywhere: two coordinators may use the same run id (P49).

    ``owner`` is the configured coordinator URL, unmodified (peer spec 1.1).
    """

    owner: str
    run_id: str
    job_id: str
