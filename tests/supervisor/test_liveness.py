"""Who answers pings; all times are chosen, nothing waits."""

from kici.supervisor.liveness import HUNG_AFTER_S, PING_INTERVAL_S, Hung, Liveness, SendPing


def test_a_child_is_pinged_at_the_interval_and_its_answer_counts():
    liveness = Liveness()
    liveness.started("pool", 0)
    assert liveness.deadline == PING_INTERVAL_S
    assert liveness.tick(PING_INTERVAL_S) == [SendPing("pool", 1)]
    liveness.pong("pool", 1, PING_INTERVAL_S + 0.1)
    assert liveness.all_well(HUNG_AFTER_S + 1)


def test_a_silent_child_is_hung_once_the_bound_is_over():
    liveness = Liveness()
    liveness.started("pool", 0)
    for at in (20.0, 40.0):
        liveness.tick(at)
    assert not liveness.all_well(HUNG_AFTER_S)
    assert liveness.tick(HUNG_AFTER_S) == [Hung("pool", HUNG_AFTER_S)]
    assert not any(isinstance(action, Hung) for action in liveness.tick(HUNG_AFTER_S + 1))


def test_an_answer_to_an_older_ping_does_not_count():
    liveness = Liveness()
    liveness.started("pool", 0)
    liveness.tick(20.0)
    liveness.tick(40.0)
    liveness.pong("pool", 1, 41.0)
    assert liveness.tick(60.0) == [Hung("pool", 60.0)]


def test_a_dead_child_is_nobody_s_silence():
    liveness = Liveness()
    liveness.started("pool", 0)
    liveness.gone("pool")
    assert liveness.deadline is None
    assert liveness.all_well(1e9)
    assert liveness.tick(1e9) == []
    liveness.pong("pool", 0, 1e9)


def test_our_own_absence_is_not_held_against_the_children():
    liveness = Liveness()
    liveness.started("pool", 0)
    liveness.started("web", 0)
    actions = liveness.tick(3600.0)  # the machine slept
    assert [type(action) for action in actions] == [SendPing, SendPing]
    assert liveness.all_well(3600.0)
