"""Lifecycle: supervisor <-> children, and what any process may ask of another."""

from kici.contracts.link import Message


class Hello(Message, tag="hello", frozen=True, kw_only=True):
    """Any -> its neighbour, first message after each start: a new ``boot_id`` is in force."""

    name: str
    pid: int


class ChildReady(Message, tag="child.ready", frozen=True, kw_only=True):
    """Child -> supervisor: it serves (web: the port answers; pool: agents are accepted)."""

    name: str


class ChildFailed(Message, tag="child.failed", frozen=True, kw_only=True):
    """Child -> supervisor before exit 3: it cannot boot; ``reason`` is for people.

    ``configuration`` true: the operator's input is the cause, a new start cannot help
    (the worker exits 78, which a service manager does not restart).
    """

    name: str
    reason: str
    configuration: bool = False


class ChildState(Message, tag="child.state", frozen=True, kw_only=True):
    """Supervisor -> web, on change."""

    rev: int
    name: str
    pid: int | None
    state: str
    n_restarts: int
    since: float
    reason: str


class SnapshotRequest(Message, tag="snapshot.request", frozen=True, kw_only=True):
    """Supervisor -> owner after any (re)start of a reader: say everything again, in full."""

    reader: str


class DrainRequest(Message, tag="drain.request", frozen=True, kw_only=True):
    """Anyone -> supervisor. ``deadline_s`` None waits without end (``POST /drain``)."""

    source: str
    reason: str
    deadline_s: float | None = None


class UndrainRequest(Message, tag="undrain.request", frozen=True, kw_only=True):
    """Web -> supervisor (``DELETE /drain``); refused by silence while the worker stops."""

    source: str


class ReloadRequest(Message, tag="reload.request", frozen=True, kw_only=True):
    """Web -> supervisor: as SIGHUP."""

    source: str


class DrainState(Message, tag="drain.state", frozen=True, kw_only=True):
    """Supervisor -> every child, on change and first of all after its start.

    ``draining`` false is the undrained state. ``deadline_at`` is wall-clock seconds, for
    display; the supervisor alone keeps the deadline and sends ``drain.cut`` at its end.
    ``handover``: agents and what they run are left to the next start; the pool says
    ``handover.ready`` once nothing accepted would be lost by that.
    """

    rev: int
    draining: bool
    stopping: bool
    reason: str
    deadline_at: float | None = None
    handover: bool = False


class HandoverReady(Message, tag="handover.ready", frozen=True, kw_only=True):
    """Pool -> supervisor, once while it hands over: every accepted job is with an agent."""

    rev: int


class DrainCut(Message, tag="drain.cut", frozen=True, kw_only=True):
    """Supervisor -> pool: the wait is over, cancel and report what is left."""

    reason: str


class DrainDone(Message, tag="drain.done", frozen=True, kw_only=True):
    """Pool -> supervisor while draining, whenever nothing is held any more; ``rev`` is that
    of the ``drain.state`` it answers."""

    rev: int


class Leave(Message, tag="leave", frozen=True, kw_only=True):
    """Supervisor -> child: finish in the specified order and exit 0 within ``within_s``.

    ``handover``: the pool leaves its agents alive, nobody waits for more than is in hand.
    """

    within_s: float
    handover: bool = False


class Ping(Message, tag="ping", frozen=True, kw_only=True):
    """Supervisor -> child, for the watchdog; answered by ``pong`` with the same number."""

    number: int


class Pong(Message, tag="pong", frozen=True, kw_only=True):
    number: int


class ConfigChanged(Message, tag="config.changed", frozen=True, kw_only=True):
    """Supervisor -> pool and web after a validated reload: read ``scalers`` (JSON) anew."""

    rev: int
    scalers: bytes
    warnings: tuple[str, ...] = ()


class ReloadResult(Message, tag="reload.result", frozen=True, kw_only=True):
    """Supervisor -> web: what the last reload did, for ``/status`` and the command line."""

    rev: int
    ok: bool
    at: float
    problems: tuple[str, ...] = ()
