"""The drain machine, told as event histories."""

import pytest

from kici.contracts.states import ChildName
from kici.supervisor.drain import (
    CUT_WAIT_S,
    EXIT_FORCED,
    HANDOVER_WITHIN_S,
    LEAVE_WITHIN_S,
    STOP_MARGIN_S,
    AskLeave,
    Cut,
    Drain,
    Exit,
    KillAll,
    Phase,
    Publish,
    Say,
)

TIMEOUT_S = 300.0
WALL = 1_000_000.0


def play(machine: Drain, *events: tuple) -> list:
    """Run ``(method, arguments...)`` events; all actions but log lines, in order."""
    actions = []
    for method, *arguments in events:
        if method == "drained":  # the pool answers the latest state it heard
            arguments = [machine.state.rev, *arguments]
        actions += getattr(machine, method)(*arguments)
    return [action for action in actions if not isinstance(action, Say)]


def stop(at: float, name: str = "SIGTERM") -> tuple:
    return ("signal", name, at, WALL + at)


def done(_machine: Drain, at: float) -> tuple:
    return ("drained", at)


LEFT = tuple(("left", name, 2.0) for name in LEAVE_WITHIN_S)
LEAVES = [AskLeave(name, within_s) for name, within_s in LEAVE_WITHIN_S.items()]


# W128
def test_children_leave_in_the_specified_order_and_the_exit_is_clean():
    machine = Drain(TIMEOUT_S)
    play(machine, stop(0))
    assert list(LEAVE_WITHIN_S) == [ChildName.PEER, ChildName.POOL, ChildName.WEB]
    assert play(machine, done(machine, 1.0), *LEFT) == [*LEAVES, Exit(0)]
    assert machine.phase is Phase.ENDED


# W124 W126
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_stop_publishes_its_deadline_and_cuts_at_it(name):
    machine = Drain(TIMEOUT_S)
    (published,) = play(machine, stop(0, name))
    assert isinstance(published, Publish)
    assert (published.state.draining, published.state.stopping) == (True, True)
    assert published.state.deadline_at == WALL + TIMEOUT_S
    assert play(machine, ("tick", TIMEOUT_S - 0.1)) == []
    assert play(machine, ("tick", TIMEOUT_S)) == [Cut("drain timeout")]
    assert play(machine, ("tick", TIMEOUT_S + CUT_WAIT_S - 0.1)) == []
    assert play(machine, ("tick", TIMEOUT_S + CUT_WAIT_S)) == LEAVES[:1]


def test_the_cut_and_the_leaving_fit_into_the_margin_of_the_stop():
    assert CUT_WAIT_S + sum(LEAVE_WITHIN_S.values()) + len(LEAVE_WITHIN_S) < STOP_MARGIN_S


# W123
def test_a_stop_waits_for_the_pool_to_hold_nothing():
    machine = Drain(TIMEOUT_S)
    assert play(machine, done(machine, 0)) == []  # nobody stops yet
    play(machine, stop(1))
    assert play(machine, ("tick", 100.0)) == []
    assert play(machine, done(machine, 101.0)) == LEAVES[:1]


# W77 W132
def test_a_requested_drain_is_idempotent_endless_and_reversible():
    machine = Drain(TIMEOUT_S)
    (published,) = play(machine, ("request", "web", "asked", None, 0, WALL))
    assert (published.state.stopping, published.state.deadline_at) == (False, None)
    assert machine.deadline is None
    assert play(machine, ("request", "web", "again", None, 1, WALL)) == []
    assert play(machine, done(machine, 2.0), ("tick", 1e9)) == []
    (back,) = play(machine, ("undrain", "web"))
    assert back.state.draining is False
    assert back.state.rev == published.state.rev + 1
    assert play(machine, ("undrain", "web")) == []


def test_a_requested_drain_with_a_deadline_cuts_and_stays():
    machine = Drain(TIMEOUT_S)
    play(machine, ("request", "cli", "asked", 10.0, 0, WALL))
    assert play(machine, ("tick", 10.0)) == [Cut("drain timeout")]
    assert play(machine, ("tick", 10.0 + CUT_WAIT_S), ("tick", 1e9)) == []
    assert machine.phase is Phase.DRAINING


def test_an_undrain_cannot_stop_a_stop():
    machine = Drain(TIMEOUT_S)
    play(machine, stop(0))
    assert play(machine, ("undrain", "web")) == []
    assert machine.state.draining is True


# W130
def test_the_second_signal_warns_and_cuts_once():
    machine = Drain(TIMEOUT_S)
    play(machine, stop(0))
    actions = machine.signal("SIGINT", 1.0, WALL)
    assert actions[0].level == "warning"
    assert actions[0].message.startswith("Shutdown already in progress")
    assert actions[0].fields == {"signal": "SIGINT"}
    assert actions[2:] == [Cut("second SIGINT")]
    assert play(machine, ("tick", 1.0 + CUT_WAIT_S)) == LEAVES[:1]


# W131
def test_the_third_signal_kills_everything():
    machine = Drain(TIMEOUT_S)
    assert play(machine, stop(0), stop(1), stop(2))[-2:] == [KillAll(), Exit(EXIT_FORCED)]


def test_a_stop_by_command_counts_no_signal():
    machine = Drain(TIMEOUT_S)
    play(machine, ("stop", "kici-workerctl", 0, WALL))
    assert not any(isinstance(action, KillAll) for action in play(machine, stop(1), stop(2)))


def test_a_stop_that_takes_too_long_is_forced_with_the_same_code():
    machine = Drain(TIMEOUT_S)
    play(machine, stop(0))
    limit = TIMEOUT_S + STOP_MARGIN_S
    play(machine, ("tick", TIMEOUT_S), done(machine, limit - 1))  # peer never leaves
    assert play(machine, ("tick", limit - 0.1)) == []
    assert play(machine, ("tick", limit)) == [KillAll(), Exit(0)]


@pytest.mark.parametrize("before", [(), (stop(0),), (("request", "web", "x", None, 0, WALL),)])
def test_a_failure_leaves_without_waiting_for_jobs_and_keeps_its_code(before):
    machine = Drain(TIMEOUT_S)
    play(machine, *before)
    published, first = play(machine, ("fail", 78, "pool: bad scaler", 1.0))
    assert (published.state.draining, published.state.stopping) == (True, True)
    assert first == LEAVES[0]
    assert play(machine, *LEFT) == [*LEAVES[1:], Exit(78)]


@pytest.mark.parametrize("before", [(), (("request", "web", "x", None, 0, WALL),)])
def test_agents_at_work_outlive_a_worker_that_cannot_go_on_but_is_started_again(before):
    machine = Drain(TIMEOUT_S)
    play(machine, *before)
    _, first = play(machine, ("fail", 1, "peer: died ten times", 1.0))
    assert first == HANDS[0]
    assert play(machine, *HANDED) == [*HANDS[1:], Exit(1)]


def test_no_agent_outlives_a_stop_that_fails():
    machine = Drain(TIMEOUT_S)
    _, first = play(machine, stop(0), ("fail", 1, "peer: died ten times", 1.0))[1:]
    assert first == LEAVES[0]


def test_a_failure_while_leaving_changes_only_the_code():
    machine = Drain(TIMEOUT_S)
    play(machine, stop(0))
    play(machine, done(machine, 1.0))
    assert play(machine, ("fail", 1, "web died", 1.5), *LEFT)[-1] == Exit(1)


def test_a_death_that_nobody_asked_for_is_not_a_leave():
    machine = Drain(TIMEOUT_S)
    assert play(machine, ("left", ChildName.PEER, 0)) == []
    play(machine, stop(0))
    play(machine, done(machine, 1.0))
    assert play(machine, ("left", ChildName.WEB, 1.5)) == []


def test_a_drain_done_for_an_earlier_drain_does_not_end_a_later_stop():
    machine = Drain(TIMEOUT_S)
    machine.request("http", "", None, 0, WALL)
    answered = machine.state.rev
    machine.undrain("http")
    machine.signal("SIGTERM", 2, WALL)
    assert machine.drained(answered, 3) == []
    assert machine.drained(machine.state.rev, 3)


# W129
def test_every_step_has_its_lines():
    machine = Drain(TIMEOUT_S)
    actions = machine.signal("SIGTERM", 0, WALL) + machine.drained(machine.state.rev, 1)
    for name in LEAVE_WITHIN_S:
        actions += machine.left(name, 2)
    lines = [action.message for action in actions if isinstance(action, Say)]
    assert lines[0] == "Draining in-flight jobs..."
    assert lines[-1] == "Graceful shutdown complete"
    assert all(f"{line[:-3]} done" in lines for line in lines if line.endswith("..."))
    assert actions[-2].fields == {"exitCode": 0}


HANDS = [AskLeave(name, within_s, True) for name, within_s in HANDOVER_WITHIN_S.items()]
HANDED = tuple(("left", name, 2.0) for name in HANDOVER_WITHIN_S)


def hand(at: float) -> tuple:
    return ("handover", "kici-workerctl", at, WALL + at)


def test_a_hand_over_drains_no_agent_and_the_pool_leaves_first():
    machine = Drain(TIMEOUT_S)
    (published,) = play(machine, hand(0))
    said = published.state
    assert (said.draining, said.stopping, said.handover) == (True, False, True)
    assert play(machine, done(machine, 0.1)) == []  # an empty pool is no reason of its own
    assert list(HANDOVER_WITHIN_S) == [ChildName.POOL, ChildName.PEER, ChildName.WEB]
    assert play(machine, ("ready_to_hand_over", 0.2), *HANDED) == [*HANDS, Exit(0)]


def test_a_hand_over_waits_for_accepted_jobs_no_longer_than_a_drain():
    machine = Drain(TIMEOUT_S)
    play(machine, hand(0))
    assert play(machine, ("tick", TIMEOUT_S - 0.1)) == []
    assert play(machine, ("tick", TIMEOUT_S)) == HANDS[:1]


@pytest.mark.parametrize(
    ("before", "handed"),
    [
        ((), True),
        ((("request", "web", "asked", None, 0, WALL),), True),
        ((stop(0),), False),
        ((stop(0), ("drained", 0.5)), False),
        ((("fail", 1, "web died", 0),), False),
    ],
)
def test_a_hand_over_never_turns_a_stop_around(before, handed):
    machine = Drain(TIMEOUT_S)
    play(machine, *before)
    asked = play(machine, hand(1), ("ready_to_hand_over", 1.1))
    assert (asked[-1:] == HANDS[:1]) is handed


# W123
def test_a_signal_turns_a_waiting_hand_over_into_a_stop():
    machine = Drain(TIMEOUT_S)
    play(machine, hand(0))
    (published,) = play(machine, stop(1))
    assert (published.state.stopping, published.state.handover) == (True, False)
    assert play(machine, ("ready_to_hand_over", 1.1)) == []
    assert play(machine, done(machine, 2), *LEFT) == [*LEAVES, Exit(0)]


def test_a_hand_over_that_hangs_is_forced():
    machine = Drain(TIMEOUT_S)
    play(machine, hand(0), ("ready_to_hand_over", 0.1))
    assert play(machine, ("tick", TIMEOUT_S + STOP_MARGIN_S)) == [KillAll(), Exit(0)]
