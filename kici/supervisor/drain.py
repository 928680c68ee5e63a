"""Pure: the drain flag, its deadline, and the order in which the worker stops.

Owns: whether the worker drains or stops, the deadline of that, the exit code.
Told by: the shell in ``worker.py`` (messages, signals, deaths, the clock).

Order (W128): drain -> peer leaves (peer.leaving, close 1000) -> pool leaves (agents are
reaped) -> web leaves (answers until then, W95) -> exit. ``now`` is monotonic seconds.

A hand-over (a restart, an upgrade) leaves agents and their jobs to the next start: the pool
leaves first, so that the peer hears, sends and stores everything that agents said until then.
"""

from enum import StrEnum

from kici.contracts.link.lifecycle import DrainState
from kici.contracts.states import ChildName
from kici.errors import EXIT_CONFIG
from kici.supervisor.drain_actions import (
    Action,
    AskLeave,
    Cut,
    Exit,
    KillAll,
    Publish,
    Say,
)

#: After a cut the pool cancels, kills (TERM, then KILL) and reports what is left. Together
#: with the leave times below it stays inside the 30 s that the spec allows (4.4).
CUT_WAIT_S = 8.0
#: How long each child may take to leave, in the order of leaving.
LEAVE_WITHIN_S = {ChildName.PEER: 5.0, ChildName.POOL: 10.0, ChildName.WEB: 3.0}
#: The same for a hand-over, which has nothing to wait for but sockets and the disk.
HANDOVER_WITHIN_S = {ChildName.POOL: 3.0, ChildName.PEER: 3.0, ChildName.WEB: 1.0}
#: The whole stop may take the drain and this (worker surface 4.4: 300 + 30 s).
STOP_MARGIN_S = 30.0
#: Exit code when somebody insisted (third signal): jobs may have been lost.
EXIT_FORCED = 1

_DRAIN_STEP = "Draining in-flight jobs"
_LEAVE_STEPS = {
    ChildName.PEER: "Disconnecting from coordinators",
    ChildName.POOL: "Shutting down scaler",
    ChildName.WEB: "Closing HTTP server",
}
_HANDOVER_STEPS = _LEAVE_STEPS | {ChildName.POOL: "Leaving agents to the next start"}


class Phase(StrEnum):
    OPEN = "open"  # jobs are taken
    DRAINING = "draining"  # none are taken; the process stays
    STOPPING = "stopping"  # draining, and the worker ends when nothing is held
    HANDING = "handing"  # as stopping, until every accepted job is with an agent
    LEAVING = "leaving"  # the children leave one by one
    ENDED = "ended"


class Drain:
    def __init__(self, drain_timeout_s: float) -> None:
        self.phase = Phase.OPEN
        self.deadline: float | None = None
        self.exit_code = 0
        self.state = DrainState(rev=0, draining=False, stopping=False, reason="")
        self._drain_timeout_s = drain_timeout_s
        self._limit: float | None = None  # the whole stop ends here, whatever happens
        self._was_cut = False
        self._n_signals = 0
        self._waiting_for: list[ChildName] = []
        self._within_s = LEAVE_WITHIN_S
        self._steps = _LEAVE_STEPS

    @property
    def stopping(self) -> bool:
        return self.phase in (Phase.STOPPING, Phase.HANDING, Phase.LEAVING, Phase.ENDED)

    def request(
        self, source: str, reason: str, deadline_s: float | None, now: float, wall: float
    ) -> list[Action]:
        """``drain.request``; never ends the process. Idempotent (W77)."""
        if self.phase is not Phase.OPEN:
            return []
        self.phase = Phase.DRAINING
        says = Say("info", "Drain requested", {"source": source, "reason": reason})
        return [says, self._drain_from(reason, deadline_s, now, wall)]

    def undrain(self, source: str) -> list[Action]:
        """``undrain.request``; a worker that stops goes on stopping."""
        if self.phase is not Phase.DRAINING:
            return []
        self.phase = Phase.OPEN
        self.deadline = None
        self._was_cut = False
        says = Say("info", "Drain ended: jobs are taken again", {"source": source})
        return [says, self._publish(False, "", None)]

    def signal(self, name: str, now: float, wall: float) -> list[Action]:
        """SIGTERM or SIGINT: the first stops, the second cuts, the third kills (W130, W131)."""
        self._n_signals += 1
        if not self.stopping or self.phase is Phase.HANDING:
            return self.stop(name, now, wall)
        if self._n_signals > 2:
            return self._force(f"{name} again: killing everything", EXIT_FORCED)
        message = "Shutdown already in progress, not waiting for jobs any longer"
        return [Say("warning", message, {"signal": name}), *self._cut(f"second {name}", now)]

    def stop(self, reason: str, now: float, wall: float) -> list[Action]:
        """Drain, then leave, then exit 0."""
        self.phase = Phase.STOPPING
        self._within_s, self._steps = LEAVE_WITHIN_S, _LEAVE_STEPS
        self._was_cut = False
        self._limit = now + self._drain_timeout_s + STOP_MARGIN_S
        says = Say("info", f"{_DRAIN_STEP}...", {"reason": reason})
        return [says, self._drain_from(reason, self._drain_timeout_s, now, wall)]

    def handover(self, reason: str, now: float, wall: float) -> list[Action]:
        """Leave, agents alive, then exit 0. A stop that has begun stays a stop.

        Accepted jobs that no agent has yet live in our memory alone: they are waited for,
        as long as a drain would be.
        """
        if self.stopping:
            return []
        self.phase = Phase.HANDING
        self._within_s, self._steps = HANDOVER_WITHIN_S, _HANDOVER_STEPS
        self._limit = now + self._drain_timeout_s + STOP_MARGIN_S
        says = Say("info", "Handing over to the next start...", {"reason": reason})
        return [says, self._drain_from(reason, self._drain_timeout_s, now, wall)]

    def ready_to_hand_over(self, now: float) -> list[Action]:
        """``handover.ready`` of the pool."""
        return self._leave(now) if self.phase is Phase.HANDING else []

    def fail(self, exit_code: int, reason: str, now: float) -> list[Action]:
        """The worker cannot go on: leave without waiting for jobs, then ``exit_code``. Agents at
        work stay for the next start, unless a stop was wanted or nobody will start us again."""
        if self.phase in (Phase.LEAVING, Phase.ENDED):
            self.exit_code = self.exit_code or exit_code
            return []
        if self.phase is not Phase.STOPPING and exit_code != EXIT_CONFIG:
            self._within_s, self._steps = HANDOVER_WITHIN_S, _HANDOVER_STEPS
        self.phase = Phase.LEAVING
        self.exit_code = exit_code
        self._limit = now + STOP_MARGIN_S
        says = Say("error", "The worker cannot go on and stops", {"reason": reason})
        return [says, self._publish(True, reason, None), *self._leave(now)]

    def drained(self, rev: int, now: float) -> list[Action]:
        """``drain.done`` of the pool for the state ``rev``. One for an earlier state proves
        nothing: jobs may have been taken between that drain and this stop."""
        if self.phase is not Phase.STOPPING or rev != self.state.rev:
            return []
        return [Say("info", f"{_DRAIN_STEP} done"), *self._leave(now)]

    def left(self, name: ChildName, now: float) -> list[Action]:
        """The child that was asked to leave is gone (by itself or killed)."""
        if self.phase is not Phase.LEAVING or self._waiting_for[:1] != [name]:
            return []
        self._waiting_for.pop(0)
        return [Say("info", f"{self._steps[name]} done"), *self._next_leave()]

    def tick(self, now: float) -> list[Action]:
        if self._limit is not None and now >= self._limit and self.phase is not Phase.ENDED:
            return self._force("The stop took too long: killing everything", self.exit_code)
        if self.deadline is None or now < self.deadline:
            return []
        if self.phase is Phase.HANDING:
            says = Say("warning", "Accepted jobs that no agent took in time will be failed")
            return [says, *self._leave(now)]
        if not self._was_cut:
            return self._cut("drain timeout", now)
        if self.phase is Phase.STOPPING:
            says = Say("warning", "Jobs were still held when the time after the cut was over")
            return [says, *self._leave(now)]
        self.deadline = None
        return []

    def _drain_from(
        self, reason: str, deadline_s: float | None, now: float, wall: float
    ) -> Publish:
        self.deadline = None if deadline_s is None else now + deadline_s
        return self._publish(True, reason, None if deadline_s is None else wall + deadline_s)

    def _publish(self, draining: bool, reason: str, deadline_at: float | None) -> Publish:
        self.state = DrainState(
            rev=self.state.rev + 1,
            draining=draining,
            stopping=draining and self.phase not in (Phase.DRAINING, Phase.HANDING),
            reason=reason,
            deadline_at=deadline_at,
            handover=self.phase is Phase.HANDING,
        )
        return Publish(self.state)

    def _cut(self, reason: str, now: float) -> list[Action]:
        if self._was_cut or self.phase not in (Phase.DRAINING, Phase.STOPPING):
            return []
        self._was_cut = True
        self.deadline = now + CUT_WAIT_S
        return [Say("warning", "Cancelling the jobs in flight", {"reason": reason}), Cut(reason)]

    def _leave(self, now: float) -> list[Action]:
        self.phase = Phase.LEAVING
        self.deadline = self._limit
        self._waiting_for = list(self._within_s)
        return self._next_leave()

    def _next_leave(self) -> list[Action]:
        if not self._waiting_for:
            return self._end()
        name = self._waiting_for[0]
        handover = self._within_s is HANDOVER_WITHIN_S
        asks = AskLeave(name, self._within_s[name], handover)
        return [Say("info", f"{self._steps[name]}..."), asks]

    def _end(self) -> list[Action]:
        self.phase = Phase.ENDED
        self.deadline = None
        says = Say("info", "Graceful shutdown complete", {"exitCode": self.exit_code})
        return [says, Exit(self.exit_code)]

    def _force(self, message: str, exit_code: int) -> list[Action]:
        self.phase = Phase.ENDED
        self.deadline = None
        self.exit_code = exit_code
        return [Say("warning", message, {"exitCode": exit_code}), KillAll(), Exit(exit_code)]
