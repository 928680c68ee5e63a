from kici.supervisor.liveness import HUNG_AFTER_S
from kici.supervisor.restarts import MAX_DELAY_S, N_AT_ONCE, N_GIVE_UP, STEADY_S, RestartPolicy


def test_the_first_deaths_are_healed_at_once():
    policy = RestartPolicy()
    assert [policy.died(0.1, 0.0) for _ in range(N_AT_ONCE)] == [0.0] * N_AT_ONCE


def test_delays_grow_to_the_ceiling_and_then_it_gives_up():
    policy = RestartPolicy()
    delays = [policy.died(0.1, 0.0) for _ in range(N_GIVE_UP)]
    grown = delays[N_AT_ONCE:-1]
    assert grown == sorted(grown)
    assert grown[:3] == [0.5, 1.0, 2.0]
    assert max(grown) == MAX_DELAY_S
    assert delays[-1] is None


def test_the_ceiling_is_below_the_bound_of_liveness():
    assert MAX_DELAY_S < HUNG_AFTER_S


def test_a_child_that_ran_well_has_a_clean_record():
    policy = RestartPolicy()
    for _ in range(N_GIVE_UP - 1):
        policy.died(0.1, 0.0)
    assert policy.died(STEADY_S, 0.0) == 0.0


def test_the_spread_only_shortens():
    first, second = RestartPolicy(), RestartPolicy()
    for _ in range(N_AT_ONCE):
        first.died(0.1, 0.0)
        second.died(0.1, 1.0)
    assert first.died(0.1, 0.0) == 0.5
    assert second.died(0.1, 1.0) == 0.375
